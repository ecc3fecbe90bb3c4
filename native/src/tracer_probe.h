// tracer_probe.h -- does a block come from malloc's hooks?
//
// Layer 10. Cold, but tracer_probe_note().
#ifndef MEMLEAK_TRACER_PROBE_H
#define MEMLEAK_TRACER_PROBE_H

#include "base.h"

// What malloc's hooks hand out on this thread between the two calls, up to eight blocks: does one of them hold p?
// Nothing of it is recorded.
struct tracer_probe {
	int32_t calls_left;
	uint8_t busy;
};
struct tracer_probe tracer_probe_begin(void);
bool tracer_probe_end(const struct tracer_probe *probe, const void *p);

// A block was handed out on a thread that is SAMPLER_PROBE. Sampled.
void tracer_probe_note(const void *address, size_t size_bytes);

#endif
