// hook_pymem.h -- Python's own allocators
//
// Layer 10. The hooks are hot.
#ifndef MEMLEAK_HOOK_PYMEM_H
#define MEMLEAK_HOOK_PYMEM_H

#include "base.h"

// Put our hooks in front of the allocators of the domains MEM and OBJ, and of pymalloc's arenas, wherever they are
// not in the way of a call. With the GIL, or before the interpreter is `initialised`. Cold.
enum hook_pymem_found {
	HOOK_PYMEM_NONE,     // no interpreter
	HOOK_PYMEM_IN_PLACE, // now, and as far as is known ever since the first time
	HOOK_PYMEM_WAS_GONE, // another tool had put back what was there before us: frees went past
};
enum hook_pymem_found hook_pymem_wrap(bool initialised);

// Called when pymalloc has got an arena, from within it: a cold moment, but one that may not ask Python for memory.
void hook_pymem_when_arena_comes(void (*call)(void));

#endif
