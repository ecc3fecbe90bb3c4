// gauges.h -- business counts beside which live bytes are read: names, values, and their history in the file
//
// Layer 8. gauges_write(), gauges_keep() and gauges_add() are sampled, the rest is cold.
#ifndef MEMLEAK_GAUGES_H
#define MEMLEAK_GAUGES_H

#include "base.h"

// Number of the gauge with this name, for the life of the process and of its forked children. 0: it is no name, or
// there are MLF_GAUGES others (counted).
uint32_t gauges_number(const char *name, size_t bytes);

// The value from now on, whether or not anything is being recorded. False: no such gauge.
bool gauges_keep(uint32_t number, int64_t value);
bool gauges_add(uint32_t number, int64_t more);

// The value; false: it has none yet in this process.
bool gauges_value(uint32_t number, int64_t *value);

// Brings the open recording up to date with what is kept. Who stores a value calls this after it.
void gauges_write(uint32_t number);

// How many numbers may have been given: each above 0 up to this.
uint32_t gauges_given(void);

// Takes over names and values that readers have put into the recording that is there, before another takes its place.
void gauges_adopt(void);

#endif
