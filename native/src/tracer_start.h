// tracer_start.h -- a recording begins, and ends
//
// Layer 11. Cold, but tracer_gauge_was_set().
#ifndef MEMLEAK_TRACER_START_H
#define MEMLEAK_TRACER_START_H

#include "base.h"
#include "memleak_format.h"
#include "recording.h"
#include "turn.h"

// Of who starts or stops, and of a thread that opens a forked child's recording, perhaps inside malloc.
extern struct turn tracer_turn HIDDEN;

// Opens a recording. With the turn, and not while one is open. After a stop it waits until no thread is in
// sampled code any more; false and *why if one stays there.
bool tracer_start(const struct recording_options *options, bool follow_fork, const char **why);

// What it was asked for the last time. `follow_fork`: a forked child is to have a recording of its own.
struct tracer_started {
	struct recording_options options;
	bool follow_fork;
};
extern struct tracer_started tracer_started HIDDEN;

// STOPPED, with the turn: nothing is written any more. EXITED: marks the end, late destructors still record.
void tracer_stop(enum mlf_state state);

// A gauge has another value, which goes into the open recording, or into the one that is just being opened. Sampled.
void tracer_gauge_was_set(uint32_t number);

#endif
