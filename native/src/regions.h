// regions.h -- live mappings by address range
//
// Layer 4. munmap, mremap and MAP_FIXED may cut a mapping anywhere, so mappings need what the live set
// cannot do: "who overlaps this range?". A linear table: there are few mappings of 64 KiB or more,
// and each operation here comes with a system call that costs more.
#ifndef MEMLEAK_REGIONS_H
#define MEMLEAK_REGIONS_H

#include "base.h"

struct region {
	uintptr_t start, end;
};

bool regions_add(struct region region); // false: table full
// Takes out one region that overlaps [start, end). Call until it returns false.
bool regions_take_overlap(struct region wanted, struct region *out);
bool regions_any(void); // false: there is none, a mapping call can pass straight through
void regions_drop(void); // forked child

#endif
