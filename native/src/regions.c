// regions.c -- live mappings by address range
//
// Context:   sampled (inside mmap, munmap, mremap).
// Invariant: a slot's end is valid while its start is neither FREE nor HELD.
// Why:       slots below `high_water` are scanned; 4096 slots are 64 KiB of .bss, touched as used.
// Proof:     tests/native/test_regions.c
#include "regions.h"

#include "atomics.h"

#define REGIONS_MAX 4096U
#define FREE ((uintptr_t)0)
#define HELD ((uintptr_t)1)

static struct region regions[REGIONS_MAX];
static uint32_t high_water;

bool regions_any(void) { return load_relaxed(&high_water) != 0; }

bool regions_add(struct region region)
{
	for (uint32_t i = 0; i < REGIONS_MAX; i++) {
		uintptr_t seen = FREE;
		if (load_relaxed(&regions[i].start) != FREE || !cas_acq_rel(&regions[i].start, &seen, HELD))
			continue;
		store_relaxed(&regions[i].end, region.end); // relaxed: a scan that looks too early looks again once it holds the slot
		uint32_t high = load_relaxed(&high_water);
		while (high < i + 1 && !cas_acq_rel(&high_water, &high, i + 1))
			;
		store_release(&regions[i].start, region.start); // pairs with the acquire below
		return true;
	}
	return false;
}

bool regions_take_overlap(struct region wanted, struct region *out)
{
	uint32_t high = load_acquire(&high_water);
	for (uint32_t i = 0; i < high; i++) {
		uintptr_t start = load_acquire(&regions[i].start);
		if (start == FREE || start == HELD || start >= wanted.end || load_relaxed(&regions[i].end) <= wanted.start)
			continue;
		if (!cas_acq_rel(&regions[i].start, &start, HELD))
			continue;
		*out = (struct region){start, regions[i].end};
		store_release(&regions[i].start, FREE);
		if (out->end > wanted.start)
			return true;
		regions_add(*out); // re-used between our two looks, and not ours to take
	}
	return false;
}

void regions_drop(void)
{
	for (uint32_t i = 0; i < load_relaxed(&high_water); i++)
		store_relaxed(&regions[i].start, FREE);
	store_relaxed(&high_water, 0);
}
