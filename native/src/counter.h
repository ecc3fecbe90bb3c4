// counter.h -- the count rule of sampler.h alone, for a stream of calls that a lock serialises
//
// Python's small-object allocators: every call holds the GIL, so one countdown serves all threads, and a
// thread needs no state of its own. The gap law, its first draw and the look at multiples of 64 are the sampler's.
//
// Layer 5. counter_pass_hot() is hot, counter_take() is sampled.
#ifndef MEMLEAK_COUNTER_H
#define MEMLEAK_COUNTER_H

#include "sampler.h"

struct counter {
	int32_t calls_left; // hot: calls until the next look
	uint32_t gap_left, calls_loaded, calls_mod_64;
	uint64_t law, random; // law 0: no call seen yet
	uint32_t taking;      // 1: some thread is in counter_take()
	uint32_t focus;       // as in struct sampler
};

static inline bool counter_pass_hot(struct counter *c) { return likely(--c->calls_left > 0); }

// Called when counter_pass_hot() said no: the call's weight in 1/1024, 0 = not sampled; SAMPLER_ASK as in sampler_take().
uint32_t counter_take(struct counter *c, const uint64_t *interval);

// The next call begins a stream as the first one did. Others may be calling: then it is one of the next 64 at most.
void counter_restart(struct counter *c, uint64_t seed);

#endif
