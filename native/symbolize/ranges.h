// ranges.h -- which addresses an entry covers
#ifndef MEMLEAK_SYMBOLIZE_RANGES_H
#define MEMLEAK_SYMBOLIZE_RANGES_H

#include "unit.h"

// Called for each range [low, high); false ends it.
typedef bool (*range_visitor)(void *context, uint64_t low, uint64_t high);

// What DW_AT_ranges says.
void ranges_each(struct debug_file *file, struct unit *unit, const struct value *ranges, range_visitor visit, void *context);

// All of a unit, as its first entry says. False: it does not say.
bool ranges_of_unit(struct debug_file *file, struct unit *unit, range_visitor visit, void *context);

#endif
