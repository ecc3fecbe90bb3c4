// tracer_knobs.h -- what the open recording is asked for: knobs, budget, focus
//
// Layer 11. Cold, but tracer_look_at_focus().
#ifndef MEMLEAK_TRACER_KNOBS_H
#define MEMLEAK_TRACER_KNOBS_H

#include "base.h"

// The knobs of the open recording from now on. False: not valid, or nothing is open.
bool tracer_configure(uint64_t interval, uint64_t python_interval, uint64_t sample_bytes);
bool tracer_set_budget(uint64_t budget_ppm); // the same
bool tracer_set_focus(const char *text);     // the same; text as in memleak.h

// After focus_is_new(): adopts the focus that is asked for. Sampled.
void tracer_look_at_focus(void);

#endif
