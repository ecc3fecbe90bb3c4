// mappings.h -- which mappings are live, and what becomes of them when a part goes
//
// Layer 10. Sampled. Called by who has entered: see tracer_gate.h.
#ifndef MEMLEAK_MAPPINGS_H
#define MEMLEAK_MAPPINGS_H

#include "base.h"
#include "liveset.h"
#include "samples.h"

#define MAPPINGS_CUT_KEPT 4
struct mappings_cut { // to put back if the real call fails
	unsigned count; // may exceed what is kept: the rest is then lost
	uint32_t recording; // its number: another may have been opened before the real call returned
	struct {
		uintptr_t start;
		uint64_t bytes;
		struct live_sample sample;
	} piece[MAPPINGS_CUT_KEPT];
};

struct registers;
void mappings_record(void *start, size_t bytes, const struct registers *caller, enum samples_payer payer);

// Forgets what [start, start + bytes) covers of live mappings. `lost`: it went out of our sight.
void mappings_cut(void *start, size_t bytes, bool lost, struct mappings_cut *out);
void mappings_put_back(const struct mappings_cut *cut);

#endif
