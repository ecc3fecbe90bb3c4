// unwind.h -- the return addresses of the calling thread, innermost first
//
// Layer 6. Sampled: no allocation, lock, system call or fault, whatever the stack holds.
#ifndef MEMLEAK_UNWIND_H
#define MEMLEAK_UNWIND_H

#include "base.h"
#include "unwind_thread.h"

enum unwind_end {
	UNWIND_COMPLETE, // the outermost frame was reached
	UNWIND_DEPTH,    // there was a further frame
	UNWIND_NO_CFI,   // no unwind information, or no known object, at the last frame
	UNWIND_BAD_CFI,  // unwind information of a kind that is not followed
	UNWIND_BOUNDS,   // the next frame would lie outside the stack
};

// Frame words as in memleak_format.h into frames[0 .. result): start->pc first, at most `max`.
// *hash is a function of the frame words and their number: unwind_hash().
unsigned unwind(const struct registers *start, struct unwind_bounds bounds, uint64_t *frames, unsigned max,
		uint64_t *hash, enum unwind_end *end);
uint64_t unwind_hash(const uint64_t *frames, unsigned count);

#endif
