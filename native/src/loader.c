// loader.c -- may the loader's list be asked for, in this process?
//
// Context:   cold.
// Invariant: in a child of a process with threads no thread of the program waits for the lock of dl_iterate_phdr() before
//            this process has had it once.
// Why:       fork() leaves the child a loader that can look symbols up, but not that lock if another thread had it. A child
//            that only looks symbols up would hang because of us. One that has loaded something has had the lock;
//            and before that nothing new is there to be hooked.
// Proof:     tests/integration/test_fork.py
#include "loader.h"

#include "atomics.h"
#include "objects.h"

#include <dlfcn.h>
#include <link.h>

#define OBJECTS_MOST 2048U

static uint32_t had_threads; // the program, when it forked
static uint32_t suspect;     // the lock may be lost; children of such a child have lost it, too
static const struct link_map *inherited[OBJECTS_MOST]; // what was loaded then
static unsigned inherited_count;

void loader_before_fork(bool threads) { store_relaxed(&had_threads, threads); } // relaxed: read by the same thread

void loader_after_fork(void)
{
	if (!load_relaxed(&had_threads))
		return;
	// The list can be followed from its head on, whatever another thread was doing to it: an object is appended, and
	// freed once it is out of it.
	unsigned n = 0;
	for (const struct link_map *map = _r_debug.r_map; map && n < OBJECTS_MOST; map = map->l_next)
		inherited[n++] = map;
	inherited_count = n;
	store_relaxed(&suspect, 1); // relaxed: there is one thread, and later ones see what was before them
}

bool loader_lock_may_be_lost(void) { return unlikely(load_relaxed(&suspect) != 0); }

void loader_trust_lock(void) { store_relaxed(&suspect, 0); } // relaxed: seen late, one look is left out

void loader_note_handle(const void *handle)
{
	if (handle == RTLD_DEFAULT || handle == RTLD_NEXT || inherited_count == OBJECTS_MOST)
		return;
	for (unsigned i = 0; i < inherited_count; i++)
		if (inherited[i] == handle)
			return;
	loader_trust_lock();
}

void loader_wait_for_lock(void)
{
	if (!loader_lock_may_be_lost())
		return;
	objects_wait_for_lock();
	loader_trust_lock();
}
