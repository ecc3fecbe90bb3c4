// pyframes.h -- the Python half of a backtrace
//
// Layer 8. pyframes_walk() and pyframes_label() are sampled, the rest is cold.
#ifndef MEMLEAK_PYFRAMES_H
#define MEMLEAK_PYFRAMES_H

#include "pylabel.h"
#include "pylayout.h"

// False: leave Python alone from now on, its frames and its allocators. What was attached stays so, unused.
void pyframes_allow(bool allowed);
bool pyframes_is_allowed(void);

// What is known of an interpreter in this process, as the recording says it; anywhere.
enum mlf_python pyframes_state(void);
uint32_t pyframes_version(void); // PY_VERSION_HEX; 0 = none found

// The same after a look for one; cheap when it was found, or nothing was loaded since. Takes the loader's lock: never
// inside malloc.
enum mlf_python pyframes_attach(void);

// pymalloc's arenas are this large; 0 before pyframes_attach().
size_t pyframes_arena_bytes(void);

// This thread's Python frames, innermost first, as struct mlf_python_stack holds them. 0: none, or not Python. *label: the set of
// labels that its code is under, number 0: none.
unsigned pyframes_walk(uint64_t *frames, unsigned max, uint64_t *hash, bool *truncated, struct pylabel *label);

// The set of labels alone. Sampled.
uint32_t pyframes_label(void);

// A recording begins: nobody is in pyframes_walk(). (In a forked child somebody may have been.)
void pyframes_open(void);

// This thread is about to end the interpreter: from now on no other one is walked but with the GIL, and none is now.
// 0: it is not ended yet.
void pyframes_note_end(uintptr_t thread);

// Has the interpreter said that it ends, and not begun again? Once it was found.
bool pyframes_is_ending(void);

// Before the interpreter unmaps frames: waits a while for those who read them, if it ends.
void pyframes_await_readers(void);

// Ref of the stack's record; 0 if there is no room (counted).
uint32_t pyframes_store(const uint64_t *frames, unsigned count, uint64_t hash, bool truncated);

// ---- for who compares with what the interpreter says; state FRAMES, with the GIL ----

struct pyframes_place {
	uintptr_t code;
	uint32_t offset; // of the instruction, or MLF_PYTHON_FRAME_NOT_BEGUN
	bool shown;      // the interpreter's own functions do not pass over it
};
uintptr_t pyframes_thread(void);                     // this thread's state, 0: none in the main interpreter; also without the GIL
uintptr_t pyframes_innermost(uintptr_t thread);      // its innermost frame, 0: none
bool pyframes_next(uintptr_t *frame, struct pyframes_place *out); // the place at *frame or further out, and what lies behind
void pyframes_fail_self_test(void);                  // they differ: off for good

#endif
