// greenlets.h -- where the native stack of a greenlet begins
//
// Layer 6. Sampled.
#ifndef MEMLEAK_GREENLETS_H
#define MEMLEAK_GREENLETS_H

#include "base.h"

// How many of the `count` frames, innermost first, are the running greenlet's: up to the function of greenlet's that
// began it. `runs`: of the interpreter, at least; 0: not known, then all are.
unsigned greenlets_own_frames(const uint64_t *frames, unsigned count, unsigned runs);

#endif
