// stats.h -- everything lost or noteworthy has a name and a visible counter
//
// Layer 3. Names and meanings: MLF_COUNTERS in memleak_format.h.
#ifndef MEMLEAK_STATS_H
#define MEMLEAK_STATS_H

#include "atomics.h"
#include "memleak_format.h"

// The open recording's counters, or a private array before there is one. Written by cold code only.
extern uint64_t *stats_counters HIDDEN;

// Relaxed: counters are independent of all other data; readers want totals, not order.
#define count(name) ((void)add_relaxed(&load_relaxed(&stats_counters)[MLF_COUNTER_##name], 1))

void stats_attach(uint64_t *counters);
void stats_detach(void);
uint64_t stats_value(enum mlf_counter which);

#endif
