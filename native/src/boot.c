// boot.c -- what must be known before anything can be recorded
//
// Context:   cold: the library's constructor, memleak_start(), and the C API.
// Invariant: nothing is opened or hooked here. Nobody returns from boot() before everything is known.
// Why:       both doors and every C test begin with it.
// Proof:     tests/native/test_boot.c, and every other there
#include "boot.h"

#include "allocator.h"
#include "atomics.h"
#include "elfimage.h"
#include "modules.h"
#include "objects.h"
#include "settings.h"
#include "turn.h"
#include "unwind_thread.h"

// Begins anew what a thread of the process we were forked from may have begun.
static void learn(void)
{
	allocator_resolve();
	modules_init(settings_is("MEMLEAK_MODULE_SNAPSHOT", "1"));
	unwind_init();
	unsigned id = modules_find((uintptr_t)real.malloc);
	if (id && !elf_image_symbol(&modules_get(id)->image, "gnu_get_libc_version", NULL))
		allocator_set_owner(modules_get(id)->image.low, modules_get(id)->image.high);
}

void boot(void)
{
	static struct turn turn;
	static bool done;
	if (load_acquire(&done)) // pairs with the release below
		return;
	turn_take(&turn);
	if (!done) {
		learn();
		store_release(&done, true);
	}
	turn_leave(&turn);
}

bool boot_is_ours(const char *name) { return elf_is_own(objects_symbol(name)); }

// Loaded later we stand behind the C library, whose functions come first. Of a tool that is preloaded before us some do: tcmalloc has
// its own mmap.
bool boot_is_preloaded(void) { return boot_is_ours("mmap") || boot_is_ours("dlclose") || boot_is_ours("pthread_create"); }
