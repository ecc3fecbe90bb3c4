// tracer_start.c -- a recording begins, and ends
//
// Context:   cold, with the turn; a forked child starts inside malloc. tracer_gauge_was_set() is sampled.
// Invariant: a recording is replaced only when everybody who entered the last one has left. All it needs is there before
//            anybody can enter it.
// Why:       hooks stay in place for ever; whether they record is one phase and one word.
// Proof:     tests/native/test_tracer.c, test_gauges.c; tests/integration/test_import_door.py; tests/models/tracer.pml
#include "tracer_start.h"

#include "bitmap.h"
#include "copies.h"
#include "focus.h"
#include "gauges.h"
#include "governor.h"
#include "heaps.h"
#include "ledger.h"
#include "marks.h"
#include "outcome.h"
#include "owners.h"
#include "pyframes.h"
#include "pylabel.h"
#include "regions.h"
#include "rows.h"
#include "sampler.h"
#include "samples.h"
#include "sys.h"
#include "tracer_gate.h"

#define STOP_WAITS 2000U   // a thread in here may have been preempted, not more
#define START_WAITS 20000U // two seconds

struct turn tracer_turn;
struct tracer_started tracer_started;

bool tracer_start(const struct recording_options *options, bool follow_fork, const char **why)
{
	if (!tracer_has_page()) {
		if (!tracer_make_page()) {
			*why = "the kernel has no MADV_WIPEONFORK (before Linux 4.14)";
			return false;
		}
	} else {
		if (!tracer_all_left(START_WAITS)) {
			*why = "a thread has not come out of the last recording for two seconds; try again later";
			return false;
		}
		bitmap_drop();
		regions_drop();
		outcome_drop();
		if (tracer_phase != TRACER_PHASE_ACTIVE) // a forked child has its parent's in its memory
			gauges_adopt();
	}
	uint64_t seed = options->seed;
	if (!seed)
		sys_getrandom(&seed, sizeof(seed));
	seed ^= tracer_phase == TRACER_PHASE_ACTIVE ? (uint64_t)sys_getpid() * MLF_CHECK_3 : 0; // a forked child draws its own
	sampler_seed(seed);
	bitmap_open();
	if (!recording_open(options, why)) {
		if (!*why)
			*why = "no address space for a recording";
		return false;
	}
	rows_open();
	owners_open();
	copies_begin();
	marks_begin();
	ledger_begin();
	heaps_begin();
	tracer_started = (struct tracer_started){*options, follow_fork};
	recording.header->sample_cost_ns = samples_calibrate();
	governor_begin(recording.header);
	store_relaxed(&tracer_gate.interval, &recording.header->requested);
	focus_begin(recording.header, options->focus, &tracer_gate.interval);
	pyframes_open();
	recording.header->python_state = pyframes_state(); // no look for one: a forked child opens inside malloc
	recording.header->python_version = pyframes_version();
	recording.header->label_state = pylabel_state();
	store_relaxed(&tracer_gate.native_off, options->native_off);
	store_release(&tracer_phase, TRACER_PHASE_ACTIVE);
	store_seq_cst(tracer_gate.armed, 1); // from here on hooks record
	sampler_restart();       // this thread follows the new knobs at once, others within 64 calls
	counter_restart(&tracer_python, seed);
	fence_seq_cst(); // pairs with tracer_gauge_was_set()
	for (uint32_t number = gauges_given(); number; number--)
		tracer_gauge_was_set(number);
	return true;
}

void tracer_stop(enum mlf_state state)
{
	bool was_recording = tracer_is_recording();
	if (state == MLF_STATE_STOPPED) {
		store_seq_cst(&tracer_phase, TRACER_PHASE_STOPPED); // pairs with tracer_enter()
		store_relaxed(&tracer_gate.interval, &tracer_off);
		governor_end();
		focus_end();
		if (was_recording)
			tracer_all_left(STOP_WAITS); // then it is frozen; a thread that stays in there may still finish its one sample
	}
	if (was_recording) {
		recording_close(state);
		copies_write_last();
	}
}

void tracer_gauge_was_set(uint32_t number)
{
	uint32_t *inside = tracer_enter();
	if (unlikely(!inside)) {
		fence_seq_cst(); // who starts arms first and then looks what is kept: one of the two sees the other
		if (!(inside = tracer_enter()))
			return;
	}
	gauges_write(number);
	tracer_leave(inside);
}
