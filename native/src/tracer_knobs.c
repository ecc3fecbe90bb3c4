// tracer_knobs.c -- what the open recording is asked for: knobs, budget, focus
//
// Context:   cold; tracer_look_at_focus() is sampled.
// Invariant: a request is a word of the header, checked before it is written; it takes effect where readers' requests do.
// Why:       the process itself asks as any reader of its file may.
// Proof:     tests/native/test_tracer.c, test_focus.c; tests/integration/test_focus.py
#include "tracer_knobs.h"

#include "focus.h"
#include "recording.h"
#include "sampler.h"
#include "tracer_gate.h"

NOINLINE void tracer_look_at_focus(void)
{
	uint32_t *inside = tracer_enter();
	if (!inside)
		return;
	focus_look(recording.header, &tracer_gate.interval);
	tracer_leave(inside);
}

// The epoch numbers the changes. What is so already is none; `anyway`: what goes with it is one. Ours are odd, those
// from outside even: a request from there at the same moment, which cannot be a compare-and-swap, has another.
static void request(uint64_t *word, uint64_t interval, bool anyway)
{
	uint64_t seen = load_relaxed(word);
	while ((anyway || (uint32_t)seen != (uint32_t)interval) &&
	       !cas_relaxed(word, &seen, (((seen >> 32) + 1) | 1) << 32 | (uint32_t)interval))
		;
}

bool tracer_configure(uint64_t interval, uint64_t python_interval, uint64_t sample_bytes)
{
	if (!sampler_interval_valid(interval) || !sampler_interval_valid(python_interval) || (sample_bytes && sample_bytes < 4096) ||
	    !tracer_is_recording())
		return false;
	bool other_bytes = load_relaxed(&recording.header->requested_sample_bytes) != sample_bytes;
	store_relaxed(&recording.header->requested_sample_bytes, sample_bytes);
	request(&recording.header->requested, interval, other_bytes);
	request(&recording.header->python_requested, python_interval, false);
	return true;
}

bool tracer_set_budget(uint64_t budget_ppm)
{
	if (budget_ppm > MLF_BUDGET_PPM_MAX || !tracer_is_recording())
		return false;
	store_relaxed(&recording.header->budget_ppm, budget_ppm);
	return true;
}

bool tracer_set_focus(const char *text)
{
	if (!tracer_is_recording() || !focus_request(recording.header, text))
		return false;
	tracer_look_at_focus();
	return true;
}
