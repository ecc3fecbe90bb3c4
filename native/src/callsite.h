// callsite.h -- did a caller call this very function, and not another that jumped on to it?
//
// Layer 5. Sampled.
#ifndef MEMLEAK_CALLSITE_H
#define MEMLEAK_CALLSITE_H

#include "base.h"

// Is the call before `return_address` one through a slot of its object's that holds `function`, or to a stub that jumps through
// one? *stub is the frame word of that stub then, 0 if there is none. False also when that cannot be told.
bool callsite_calls(uintptr_t return_address, uintptr_t function, uint64_t *stub);

#endif
