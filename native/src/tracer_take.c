// tracer_take.c -- the decision: is this call recorded, and with what weight?
//
// Context:   sampled.
// Invariant: the recording is not entered: its header is read though it may be the last recording's, at the same place. New
//            knobs and a new focus are noticed at multiples of 64 calls only.
// Why:       asked before the real call, when there may be nothing to record after it.
// Proof:     tests/native/test_tracer.c, test_governor.c; tests/integration/test_oracle.py
#include "tracer_take.h"

#include "focus.h"
#include "pyframes.h"
#include "recording.h"
#include "stats.h"
#include "tracer_child.h"
#include "tracer_gate.h"
#include "tracer_knobs.h"

static COLD uint32_t take_unarmed(size_t size_bytes)
{
	static const uint64_t no_bytes = 0;
	// The countdowns run on under the off law, so the slow path is met once in 64 calls; before a thread
	// has adopted that, at any. The calls themselves are counted, not the looks.
	uint32_t calls = sampler_self.calls_left <= 0 ? sampler_self.calls_loaded : 0;
	sampler_take(size_bytes, &tracer_off, &no_bytes);
	if (load_relaxed(&tracer_phase) == TRACER_PHASE_ACTIVE) // a forked child
		tracer_child_calls(calls);
	return 0;
}

// Has the countdown run out at a multiple of 64 calls?
static bool is_whole(int32_t calls_left, uint32_t calls) { return calls_left <= 0 && calls % SAMPLER_EPOCH_CALLS == 0; }

uint32_t tracer_take(size_t size_bytes)
{
	if (unlikely(sampler_self.busy)) {
		sampler_skip(size_bytes);
		if (sampler_self.busy == SAMPLER_PROBE)
			return SAMPLER_WEIGHT_ONE;
		if (tracer_is_armed() && sampler_self.busy != SAMPLER_NOT_THE_PROGRAM)
			count(nested);
		return 0;
	}
	if (unlikely(!tracer_is_armed()))
		return take_unarmed(size_bytes);
	struct mlf_header *header = load_relaxed(&recording.header); // nobody waits for us here: it may be the last recording's, at the same place
	if (unlikely(!governor_matches_hot(GOVERNOR_NATIVE, load_relaxed(&header->requested), load_relaxed(&header->effective)) ||
		     load_relaxed(&header->requested_sample_bytes) != load_relaxed(&governor.adopted_bytes)))
		governor_look(header, GOVERNOR_NATIVE, &sampler_self,
			      is_whole(sampler_self.calls_left, sampler_self.calls_mod_64 + sampler_self.calls_loaded));
	if (unlikely(focus_is_new(header)))
		tracer_look_at_focus();
	uint32_t weight = sampler_take(size_bytes, &header->effective, &header->effective_sample_bytes);
	if (unlikely(weight & SAMPLER_ASK) && sampler_self.calls_mod_64 == 0)
		focus_spend_asking(header);
	return weight;
}

uint32_t tracer_take_python(void)
{
	if (unlikely(!tracer_is_armed() || !pyframes_is_allowed()))
		return counter_take(&tracer_python, &tracer_off);
	struct mlf_header *header = load_relaxed(&recording.header); // nobody waits for us here
	if (unlikely(!governor_matches_hot(GOVERNOR_PYTHON, load_relaxed(&header->python_requested), load_relaxed(&header->python_effective))))
		governor_look(header, GOVERNOR_PYTHON, NULL,
			      is_whole(tracer_python.calls_left, tracer_python.calls_mod_64 + tracer_python.calls_loaded));
	if (unlikely(focus_is_new(header)))
		tracer_look_at_focus();
	uint32_t weight = counter_take(&tracer_python, &header->python_effective);
	if (unlikely(weight & SAMPLER_ASK) && tracer_python.calls_mod_64 == 0)
		focus_spend_asking(header);
	return sampler_self.busy ? 0 : weight; // a signal handler of ours or in our code: its turn is passed over
}
