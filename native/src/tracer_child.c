// tracer_child.c -- a forked child: away from its parent's recording, and to one of its own
//
// Context:   sampled; a child's recording is opened inside one of its first allocations, if nobody opens it before: a
//            program without threads offers no other moment.
// Invariant: a child writes to no recording but its own. Who opens that has the turn; one that cannot be opened is not tried again.
// Why:       nothing runs in a child that was made by a raw clone but what it calls itself.
// Proof:     tests/native/test_tracer.c; tests/integration/test_fork.py; tests/models/tracer.pml
#include "tracer_child.h"

#include "focus.h"
#include "recording.h"
#include "stats.h"
#include "tracer_gate.h"
#include "tracer_start.h"
#include "turn.h"

#define CHILD_CALLS_BEFORE_OPENING 1000U

static void (*when_child_opens)(void);

void tracer_when_child_opens(void (*call)(void)) { when_child_opens = call; }

// What would have been sampled of the calls made before there was a recording.
static void note_missed(uint64_t interval, uint32_t calls)
{
	uint32_t sum = (uint16_t)interval + (uint16_t)(interval >> 16);
	if ((uint32_t)interval != SAMPLER_OFF && calls)
		add_relaxed(&stats_counters[MLF_COUNTER_detached], (calls * 2 + sum - 1) / sum);
}

// What a forked child's own recording goes on with. Its parent may have been about to replace the header when it forked.
static void inherit(struct recording_options *options)
{
	const struct mlf_header *header = recording.header;
	uint32_t interval = (uint32_t)load_relaxed(&governor.adopted[GOVERNOR_NATIVE]);
	if (!sampler_interval_valid((uint32_t)load_relaxed(&header->effective)))
		return;
	options->parent_recording_id = header->recording_id;
	// As requested: what its parent's samples cost says little of it.
	options->interval = interval;
	options->python_interval = (uint32_t)load_relaxed(&governor.adopted[GOVERNOR_PYTHON]);
	options->sample_bytes = load_relaxed(&governor.adopted_bytes);
	options->focus = focus_text();
	options->budget_ppm = (uint32_t)load_relaxed(&header->budget_ppm);
}

// Of a forked child, whose counters are private memory from now on until it has its own recording, lest anything counted
// meets its parent's. With the turn: counters that were attached meanwhile must stay.
static void detach(void)
{
	if (tracer_state() != TRACER_FORKED || load_relaxed(&tracer_wiped->detached))
		return;
	stats_detach();
	store_relaxed(&tracer_wiped->detached, 1);
}

// With the turn. It may be inside malloc: see recording.c.
static void open_own(void)
{
	if (tracer_state() != TRACER_FORKED || !tracer_started.follow_fork)
		return;
	struct sampler *self = &sampler_self;
	struct recording_options options = tracer_started.options;
	const char *why;
	uint32_t was_busy = self->busy;
	self->busy = 1;
	detach();
	inherit(&options);
	if (!tracer_start(&options, true, &why))
		store_relaxed(&tracer_phase, TRACER_PHASE_STOPPED);
	else if (!options.native_off)
		note_missed(recording.header->effective, load_relaxed(&tracer_wiped->calls));
	if (when_child_opens)
		when_child_opens();
	self->busy = was_busy;
}

void tracer_open_in_child(void)
{
	if (tracer_state() != TRACER_FORKED || !tracer_started.follow_fork || !turn_try(&tracer_turn))
		return;
	open_own();
	turn_leave(&tracer_turn);
}

bool tracer_await_child(void)
{
	if (tracer_state() != TRACER_FORKED)
		return false;
	turn_take(&tracer_turn);
	open_own();
	turn_leave(&tracer_turn);
	return true;
}

void tracer_child_calls(uint32_t calls)
{
	struct tracer_wiped *page = load_relaxed(&tracer_wiped);
	if (unlikely(!load_relaxed(&page->detached)) && turn_try(&tracer_turn)) {
		detach();
		turn_leave(&tracer_turn);
	}
	if (add_relaxed(&page->calls, calls) + calls >= CHILD_CALLS_BEFORE_OPENING)
		tracer_open_in_child();
}
