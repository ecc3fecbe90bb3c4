// pyframes.h -- the Python half of a backtrace
//
// Layer 8. pyframes_walk() is sampled, the rest is cold.
#ifndef MEMLEAK_PYFRAMES_H
#define MEMLEAK_PYFRAMES_H

#include "pylayout.h"

// False: leave Python alone from now on, its frames and its allocators. What was attached stays so, unused.
void pyframes_allow(bool allowed);
bool pyframes_is_allowed(void);

// Look for an interpreter in this process, once; cheap when it was found. State of it, as the recording says it.
enum mlf_python pyframes_attach(void);
bool pyframes_is_attached(void); // was one found?
bool pyframes_is_initialised(void);
uint32_t pyframes_version(void); // PY_VERSION_HEX; 0 = none found

// Compare a walk with what the interpreter says, once; off for good if they differ. With the GIL.
void pyframes_self_test(void);

// pymalloc's arenas are this large; 0 before pyframes_attach().
size_t pyframes_arena_bytes(void);

// Calls `work` with the GIL if this thread has it or, with `may_take_gil`, by taking it. False: it was not called.
bool pyframes_with_gil(bool may_take_gil, void (*work)(void));

// This thread's Python frames, innermost first, as struct mlf_python_stack holds them. 0: none, or not Python.
unsigned pyframes_walk(uint64_t *frames, unsigned max, uint64_t *hash, bool *truncated);

// Ref of the stack's record; 0 if there is no room (counted).
uint32_t pyframes_store(const uint64_t *frames, unsigned count, uint64_t hash, bool truncated);

#endif
