// unwind_thread.h -- which memory is the calling thread's stack?
//
// Layer 4. Sampled, but for unwind_init().
#ifndef MEMLEAK_UNWIND_THREAD_H
#define MEMLEAK_UNWIND_THREAD_H

#include "base.h"

// Memory that may be read as stack: [the starting sp, high). low == 0: the thread was not created
// with this stack, and only the rest of the current page is known to be there.
struct unwind_bounds {
	uintptr_t low, high;
};

// Cold, once, after modules_init().
void unwind_init(void);

// The stack that holds sp, of the calling thread.
struct unwind_bounds unwind_thread_bounds(uintptr_t sp);

// The calling thread's own stack from sp up, if that part is certainly there; else {0, 0}. For a walk
// that comes from another stack.
struct unwind_bounds unwind_thread_stack_from(uintptr_t sp);

// The calling thread's id as the C library keeps it; 0 = not known.
uint32_t unwind_thread_tid(void);

#endif
