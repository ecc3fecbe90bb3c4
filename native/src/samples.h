// samples.h -- one sample in the tables: its backtrace, its row, its place among the live
//
// Layer 9. Sampled. Called by who has entered: see tracer_gate.h.
#ifndef MEMLEAK_SAMPLES_H
#define MEMLEAK_SAMPLES_H

#include "base.h"
#include "liveset.h"
#include "recording.h"

static inline struct mlf_row *samples_row(uint32_t ref) { return recording_at(ref); }

// `about`: size and weight; when it was born, if that is known; its pool and region, if it has them. False: there was no room, which is counted.
struct registers;
// `payer`: whether what it costs is measured against the budget.
enum samples_payer { SAMPLES_OF_BUDGET, SAMPLES_OF_FOCUS };
bool samples_record(const void *address, const struct live_sample *about, enum mlf_layer layer, enum mlf_domain domain,
		    const struct registers *caller, enum samples_payer payer);

// Of who frees: refs of the halves of its backtrace, 0 = none.
struct samples_stack {
	uint32_t native, python;
};
struct samples_stack samples_store_stack(const struct registers *caller);

// Nothing if the address has none. `lost`: its free went past us.
void samples_forget(const void *address, enum mlf_layer layer, bool lost);

// The same for a sample that has been taken out of the live set.
void samples_close(const struct live_sample *sample, bool lost);

// All that these layers gave: their frees may have gone past. Returns how many there were. Cold.
unsigned samples_close_displaced(const enum mlf_layer *layers, unsigned count_layers);

// Finds out what the samples to come cost here, and returns what one with a stack like this one's would. Cold.
uint32_t samples_calibrate(void);

#endif
