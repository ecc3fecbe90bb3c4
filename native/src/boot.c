// boot.c -- what must be known before anything can be recorded
//
// Context:   cold: the library's constructor, memleak_start(), and the C API.
// Invariant: nothing is opened or hooked here.
// Why:       both doors and every C test begin with it.
// Proof:     every test under tests/native
#include "boot.h"

#include "allocator.h"
#include "elfimage.h"
#include "modules.h"
#include "settings.h"
#include "unwind.h"

void boot(void)
{
	static bool done;
	if (done)
		return;
	done = true;
	allocator_resolve();
	modules_init(settings_is("MEMLEAK_MODULE_SNAPSHOT", "1"));
	unwind_init();
	unsigned id = modules_find((uintptr_t)real.malloc);
	if (id && !elf_image_symbol(&modules_get(id)->image, "gnu_get_libc_version", NULL))
		allocator_set_owner(modules_get(id)->image.low, modules_get(id)->image.high);
}

bool boot_is_ours(const char *name) { return elf_is_own(elf_global_symbol_locked(name)); }

bool boot_is_preloaded(void) { return boot_is_ours("mmap"); }
