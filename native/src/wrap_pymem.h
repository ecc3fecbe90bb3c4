// wrap_pymem.h -- putting our hooks in front of Python's allocators, and back there
//
// Layer 15. Cold.
#ifndef MEMLEAK_WRAP_PYMEM_H
#define MEMLEAK_WRAP_PYMEM_H

#include "base.h"

// Put our hooks in front of the allocators of the domains MEM and OBJ, of RAW where native allocations are not sampled, and
// of pymalloc's arenas, wherever they are not in the way of a call. With the GIL, or before the interpreter is `initialised`.
enum wrap_pymem_found {
	WRAP_PYMEM_NONE,     // no interpreter
	WRAP_PYMEM_IN_PLACE, // now, and as far as is known ever since the first time
	WRAP_PYMEM_CAME_LATE, // for the first time: the interpreter had begun without our hooks
	WRAP_PYMEM_WAS_GONE, // another tool had put back what was there before us: frees went past
};
enum wrap_pymem_found wrap_pymem(bool initialised);

// Was it never called, or does something else stand in front than it left there? Any thread; a load or two.
bool wrap_pymem_is_due(void);

// Have Python call this with the GIL between two instructions of its main thread. Any thread. False: it cannot be asked now.
bool wrap_pymem_ask(int (*call)(void *));

#endif
