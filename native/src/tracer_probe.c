// tracer_probe.c -- does a block come from malloc's hooks?
//
// Context:   cold; tracer_probe_note() is sampled.
// Invariant: one thread probes at a time, and nothing that it allocates meanwhile is sampled or counted.
// Why:       which allocator stands behind one of Python's is told by asking it, not by its address.
// Proof:     tests/native/test_tracer.c; tests/integration/test_python_domains.py
#include "tracer_probe.h"

#include "sampler.h"

static struct probed {
	uintptr_t low, high;
} probed[8];
static unsigned probed_count;

void tracer_probe_note(const void *address, size_t size_bytes)
{
	if (probed_count < ARRAY_LEN(probed))
		probed[probed_count++] = (struct probed){(uintptr_t)address, (uintptr_t)address + size_bytes};
}

struct tracer_probe tracer_probe_begin(void)
{
	struct tracer_probe before = {sampler_self.calls_left, sampler_self.busy};
	probed_count = 0;
	sampler_self.busy = SAMPLER_PROBE;
	sampler_self.calls_left = 0; // every call takes the slow path until it is put back
	return before;
}

bool tracer_probe_end(const struct tracer_probe *before, const void *p)
{
	sampler_self.calls_left = before->calls_left;
	sampler_self.busy = before->busy;
	for (unsigned i = 0; i < probed_count; i++)
		if ((uintptr_t)p >= probed[i].low && (uintptr_t)p < probed[i].high)
			return true;
	return false;
}
