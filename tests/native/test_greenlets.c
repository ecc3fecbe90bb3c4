// test_greenlets.c -- a stack that goes on behind a greenlet's begin is cut there, and no other is
#include "fixture.h"

#include "boot.h"
#include "greenlets.h"
#include "modules.h"
#include "pyruntime.h"

#include <dlfcn.h>
#include <link.h>

static uint64_t word(uintptr_t address) { return address + module_frame_base[modules_find(address)]; }

static uint64_t greenlet, loop, other;

// How many are kept of a stack in letters, innermost first: g greenlet's, l the interpreter's loop, others.
static unsigned kept(const char *stack, unsigned runs)
{
	uint64_t frames[64];
	unsigned n = 0;
	for (; stack[n]; n++)
		frames[n] = stack[n] == 'g' ? greenlet : stack[n] == 'l' ? loop : other;
	return greenlets_own_frames(frames, n, runs);
}

static bool counts_as_run(uint64_t frame)
{
	uint64_t frames[] = {other, frame, other, greenlet, other};
	return greenlets_own_frames(frames, 5, 1) == 4;
}

// A module is told by its file's name: any library that is loaded from one that is called like greenlet's.
static uintptr_t load_greenlet(void)
{
	const char *directory = temporary_directory();
	char from[4096], to[4096], command[9000];
	struct link_map *map;
	void *library = dlopen("libm.so.6", RTLD_NOW);
	CHECK(library && dlinfo(library, RTLD_DI_LINKMAP, &map) == 0);
	snprintf(from, sizeof(from), "%s", map->l_name);
	snprintf(to, sizeof(to), "%s/_greenlet.cpython-311-x86_64-linux-gnu.so", directory);
	snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
	CHECK(system(command) == 0);
	library = dlopen(to, RTLD_NOW | RTLD_LOCAL);
	void *function = library ? dlsym(library, "nan") : NULL;
	CHECK(function != NULL);
	remove_directory(directory);
	return (uintptr_t)function;
}

int main(void)
{
	boot();
	uintptr_t function = (uintptr_t)&greenlets_own_frames; // stands for the interpreter's loop
	pyruntime.loop_low = word(function);
	pyruntime.loop_high = pyruntime.loop_low + 16;
	loop = pyruntime.loop_low + 5;
	other = word((uintptr_t)&kept);
	greenlet = other;
	CHECK(!modules_greenlet_seen());
	CHECK_EQUAL(kept("xlxgxx", 1), 6);
	greenlet = word(load_greenlet());
	CHECK(modules_greenlet_seen());
	CHECK(modules_get((unsigned)(greenlet >> MLF_FRAME_MODULE_SHIFT))->flags & MLF_MODULE_GREENLET);

	CHECK_EQUAL(kept("xlxgxx", 1), 4);
	CHECK_EQUAL(kept("xlxggx", 1), 4);
	CHECK_EQUAL(kept("xlxgxx", 0), 6); // no Python frames, or not all of them
	CHECK_EQUAL(kept("xlxgxx", 2), 6);
	CHECK_EQUAL(kept("xlxlxgxlxgx", 2), 6);
	CHECK_EQUAL(kept("gggxlxlxgxlxgx", 2), 9); // where it switches
	CHECK_EQUAL(kept("gggxlxlxgxlxgx", 1), 9); // runs that are not told apart just then
	CHECK_EQUAL(kept("gggxlxlx", 2), 8); // not in a greenlet
	CHECK_EQUAL(kept("xlx", 1), 3);
	CHECK_EQUAL(kept("", 1), 0);

	// A return address is behind its call, a place that was interrupted is itself.
	CHECK(!counts_as_run(pyruntime.loop_low));
	CHECK(counts_as_run(pyruntime.loop_low + 1));
	CHECK(counts_as_run(pyruntime.loop_high));
	CHECK(!counts_as_run(pyruntime.loop_high + 1));
	CHECK(counts_as_run(pyruntime.loop_low | MLF_FRAME_EXACT));
	CHECK(!counts_as_run(pyruntime.loop_high | MLF_FRAME_EXACT));
	pyruntime.loop_low = pyruntime.loop_high = 0; // not known
	CHECK_EQUAL(kept("xlxgxx", 1), 6);
	return harness_end();
}
