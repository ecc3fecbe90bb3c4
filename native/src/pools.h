// pools.h -- allocators of the program's own: their names, and the memory that each hands out in pieces
//
// Layer 6. pools_region_of(), pools_tag() and pools_judges() are sampled, the rest is cold.
#ifndef MEMLEAK_POOLS_H
#define MEMLEAK_POOLS_H

#include "atomics.h"
#include "memleak_format.h"

#include <stdbool.h>
#include <stddef.h>

#define POOLS_REGIONS_MAX 1984U // 64 + 128 + … + 1024

struct pools_region {
	uintptr_t low, high;
	unsigned pool, number; // number: from 1 on
};

extern uint32_t pools_given HIDDEN; // numbers
static inline bool pools_any(void) { return unlikely(load_relaxed(&pools_given) != 0); }

// Number of the pool with this name, for the life of the process and of its forked children; MLF_POOL_OTHER when there are
// 63 others; 0: no name.
unsigned pools_number(const char *name);

// Number of the region; 0: there was no room, which is counted: its capacity is known, its place is not.
unsigned pools_region_add(unsigned pool, uintptr_t base, size_t bytes);
// Takes out the region of a pool that begins there, or the first one that lies wholly in [low, high).
bool pools_region_end(unsigned pool, uintptr_t base, struct pools_region *out);
bool pools_region_take_within(uintptr_t low, uintptr_t high, struct pools_region *out);
bool pools_region_overlaps(uintptr_t low, uintptr_t high); // does any?
bool pools_regions_any(void);

// The smallest region that holds p: of this pool, or of any if 0.
bool pools_region_of(unsigned pool, uintptr_t p, struct pools_region *out);

// What a live entry of a pool's block has above the number of its thread.
uint32_t pools_tag(unsigned pool, uintptr_t p);

// Does the pool certainly not have p? It has told of regions, all of them are known, and p lies in none.
bool pools_disowns(unsigned pool, uintptr_t p);

// Writes into the open recording what it lacks of all this.
void pools_write(void);

// Calls `each` with every region.
void pools_each_region(void (*each)(const struct pools_region *region));

#endif
