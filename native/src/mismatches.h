// mismatches.h -- blocks that were freed another way than they were allocated: what the recording says of them
//
// Layer 6. Sampled.
#ifndef MEMLEAK_MISMATCHES_H
#define MEMLEAK_MISMATCHES_H

#include "memleak_format.h"

struct mismatches_seen {
	enum mlf_mismatch_kind kind;
	uint32_t row;                         // that the block was allocated in
	uint32_t native_stack, python_stack; // refs of who freed it
	uint32_t freed_pool, thread, weight_x1024;
	uint64_t size_bytes, freed_bytes, target;
};

// One more. What finds no room is counted.
void mismatches_add(const struct mismatches_seen *seen);

#endif
