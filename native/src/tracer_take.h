// tracer_take.h -- the decision: is this call recorded, and with what weight?
//
// Layer 13. Sampled.
#ifndef MEMLEAK_TRACER_TAKE_H
#define MEMLEAK_TRACER_TAKE_H

#include "base.h"

// After sampler_pass_hot() and tracer_look_hot() said no: the weight this allocation is to be recorded with, 0 = not.
uint32_t tracer_take(size_t size_bytes);

// The same for a request to Python's small-object allocators, after counter_pass_hot(&tracer_python) said no.
uint32_t tracer_take_python(void);

#endif
