// liveset_check.h -- addresses that alias, and a look at the whole live set
#ifndef LIVESET_CHECK_H
#define LIVESET_CHECK_H

#include "fixture.h"

#include "bitmap.h"
#include "liveset.h"
#include "stats.h"

// `alias` 0 … 65534 of one bitmap slot: equal low 32 bits, so one bit and one pair of buckets.
static inline void *aliasing(uint32_t low, uint32_t alias)
{
	return (void *)(uintptr_t)((uint64_t)(alias + 1) << 32 | low);
}

// A sample whose fields all follow from the address and a number: a mixture of two would not fit.
static inline struct live_sample sample_for(const void *address, uint64_t number)
{
	uint64_t mixed = ((uint64_t)(uintptr_t)address + number) * MLF_CHECK_1;
	return (struct live_sample){mixed, (uint32_t)(mixed >> 7), (uint32_t)(mixed >> 13), (uint32_t)(mixed >> 19),
				    (uint32_t)(mixed >> 23)};
}

static inline bool sample_equal(const struct live_sample *a, const struct live_sample *b)
{
	return a->size_bytes == b->size_bytes && a->row == b->row && a->weight_x1024 == b->weight_x1024 &&
	       a->born_cs == b->born_cs && a->thread == b->thread;
}

// Goes through every slot as a reader of the file does. Slots in a state between free and live go to
// *held; live ones whose check is wrong, or whose bit is clear, to *wrong.
static inline unsigned count_live(unsigned *held, unsigned *wrong)
{
	unsigned live = 0;
	*held = *wrong = 0;
	const struct recording_table *table;
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_LIVE, order)); order++) {
		const uint64_t *keys = (const uint64_t *)(const void *)table->base;
		const struct mlf_live *entries = (const struct mlf_live *)(const void *)(keys + table->capacity);
		for (uint32_t i = 0; i < table->capacity; i++) {
			uint64_t key = load_acquire(&keys[i]);
			const struct mlf_live *e = &entries[i];
			*held += key != 0 && !(key & MLF_LIVE_KEY_LIVE);
			if (!(key & MLF_LIVE_KEY_LIVE))
				continue;
			live++;
			uint32_t check = mlf_live_check(key, e->size_bytes, e->row, e->weight_x1024, e->born_cs, e->thread);
			uint64_t address = (key ^ recording.secret) & MLF_LIVE_KEY_ADDRESS_MASK;
			*wrong += check != e->check || (key >> MLF_LIVE_KEY_SEQUENCE_SHIFT & 0x7FF) != (e->uses & 0x7FF) ||
				  !bitmap_test_hot((void *)(uintptr_t)address);
		}
	}
	return live;
}

static inline unsigned live_segments(void)
{
	unsigned n = 0;
	while (recording_segment(MLF_KIND_LIVE, n))
		n++;
	return n;
}

#endif
