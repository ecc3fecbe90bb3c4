// stats.c -- where the counters live
//
// Context:   count() is sampled; the rest is cold.
// Invariant: stats_counters always points to MLF_COUNTER_SLOTS writable words.
// Why:       a drop must be countable before a recording is open and in a forked child that has none.
// Proof:     tests/native/test_tracer.c
#include "stats.h"

static uint64_t unattached[MLF_COUNTER_SLOTS];
uint64_t *stats_counters = unattached;

// What was counted before is carried over, so that nothing lost early goes unseen.
void stats_attach(uint64_t *counters)
{
	for (unsigned i = 0; i < MLF_COUNTER_SLOTS; i++) {
		uint64_t early = load_relaxed(&unattached[i]);
		add_relaxed(&counters[i], early);
		store_relaxed(&unattached[i], 0);
	}
	store_relaxed(&stats_counters, counters);
}

void stats_detach(void) { store_relaxed(&stats_counters, unattached); }

uint64_t stats_value(enum mlf_counter which) { return load_relaxed(&load_relaxed(&stats_counters)[which]); }
