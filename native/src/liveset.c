// liveset.c -- which addresses are live samples
//
// Context:   sampled. Any thread; one stopped anywhere stops no other (it may make others drop, counted).
// Invariant: a slot is free (0), LIVE, or held (CLAIMED, CLEARING) by one thread. A sample stands in
//            one of the two buckets of its address, in any segment, and its bit is set in the bitmap.
// Why:       fixed windows of two 8-slot buckets, hashed from the *bitmap slot*: no tombstones, so
//            lookups stay two lines a segment for ever; and all samples that share a bit share the
//            buckets, so that "may I clear the bit" is answered where we stand.
// The bit:   a remover marks its slot CLEARING, then looks for others with the same bit or CLAIMED;
//            it clears the bit only if there are none. An inserter claims a slot, then looks for
//            CLEARING of its own bit; only if there is none does it set the bit. Both steps are
//            sequentially consistent, so at least one sees the other: no live sample ever loses its
//            bit. CLEARING carries the bit's number: a remover preempted there must not make others
//            drop all that falls into its bucket (full mode on busy cores lost 1 in 2,000 to that).
// Proof:     tests/native/test_liveset.c (threads, invariant check, stopped threads); tests/models/liveset.pml
#include "liveset.h"

#include "bitmap.h"
#include "recording.h"
#include "stats.h"

// Slot states without MLF_LIVE_KEY_LIVE.
#define SLOT_FREE 0ULL
#define SLOT_CLAIMED 1ULL
#define SLOT_CLEARING 2ULL // plus the number of the bit
#define SLOT_CLEARING_SHIFT 8

#define SPINS_FOR_CLEARING 256 // a remover holds CLEARING for ~20 ns unless it is preempted

struct window { // the two buckets of an address in one segment
	uint64_t *keys[2];
	struct mlf_live *entries[2];
};

static inline bool window_of(unsigned order, const void *address, struct window *out)
{
	const struct recording_table *table = recording_segment(MLF_KIND_LIVE, order);
	if (!table)
		return false;
	uint32_t buckets = table->capacity / MLF_LIVE_BUCKET;
	uint64_t slot = bitmap_slot(address);
	uint32_t first = (uint32_t)(slot * MLF_CHECK_1 >> 32) & (buckets - 1);
	uint32_t second = (uint32_t)(slot * MLF_CHECK_2 >> 32) & (buckets - 1);
	uint64_t *keys = (uint64_t *)(void *)table->base;
	struct mlf_live *entries = (struct mlf_live *)(void *)(keys + table->capacity);
	out->keys[0] = keys + first * MLF_LIVE_BUCKET;
	out->keys[1] = keys + second * MLF_LIVE_BUCKET;
	out->entries[0] = entries + first * MLF_LIVE_BUCKET;
	out->entries[1] = entries + second * MLF_LIVE_BUCKET;
	return true;
}

void liveset_prefetch(const void *address)
{
	struct window window;
	for (unsigned order = 0; window_of(order, address, &window); order++)
		for (unsigned b = 0; b < 2; b++)
			prefetch_write(window.keys[b]);
	prefetch_write(&bitmap_words[bitmap_slot(address) >> 5]);
}

static uint64_t clearing(const void *address) { return (uint64_t)bitmap_slot(address) << SLOT_CLEARING_SHIFT | SLOT_CLEARING; }

// Unrolled: all of them are looked at, in each segment, for nearly every sample.
#define EACH_SLOT(bucket, i)                                                                       \
	for (unsigned bucket = 0; bucket < 2; bucket++)                                            \
		_Pragma("GCC unroll 8") for (unsigned i = 0; i < MLF_LIVE_BUCKET; i++)

static uint64_t hidden(const void *address) { return ((uint64_t)(uintptr_t)address ^ recording.secret) & MLF_LIVE_KEY_ADDRESS_MASK; }

static const void *shown(uint64_t key)
{
	return (const void *)(uintptr_t)((key ^ recording.secret) & MLF_LIVE_KEY_ADDRESS_MASK);
}

#define KEY_MATCH_MASK (MLF_LIVE_KEY_LIVE | 15ULL << MLF_LIVE_KEY_LAYER_SHIFT | MLF_LIVE_KEY_ADDRESS_MASK)

static uint64_t key_of(const void *address, enum mlf_layer layer)
{
	return MLF_LIVE_KEY_LIVE | (uint64_t)layer << MLF_LIVE_KEY_LAYER_SHIFT | hidden(address);
}

// ---- insert --------------------------------------------------------------------------------------

static bool anyone_clearing(const void *address)
{
	uint64_t wanted = clearing(address);
	struct window window;
	bool found = false;
	for (unsigned order = 0; window_of(order, address, &window); order++)
		EACH_SLOT(b, i)
			found |= load_seq_cst(&window.keys[b][i]) == wanted;
	return found;
}

// A free slot of the emptier bucket, claimed; NULL if both are full.
static uint64_t *claim_slot(struct window *window, struct mlf_live **entry)
{
	unsigned used[2] = {0, 0};
	EACH_SLOT(b, i)
		used[b] += load_relaxed(&window->keys[b][i]) != SLOT_FREE;
	for (unsigned turn = 0, b = used[1] < used[0]; turn < 2; turn++, b ^= 1)
		for (unsigned i = 0; i < MLF_LIVE_BUCKET; i++) {
			uint64_t seen = SLOT_FREE;
			// Sequentially consistent: the claim must be visible before we look for CLEARING.
			if (load_relaxed(&window->keys[b][i]) == SLOT_FREE &&
			    cas_seq_cst(&window->keys[b][i], &seen, SLOT_CLAIMED)) {
				*entry = &window->entries[b][i];
				return &window->keys[b][i];
			}
		}
	return NULL;
}

static uint64_t *claim_anywhere(const void *address, struct mlf_live **entry)
{
	unsigned orders = recording_segments(MLF_KIND_LIVE);
	struct window window;
	uint64_t *slot;
	for (unsigned order = orders; order-- > 0;) // the largest first: it has the most free slots
		if (window_of(order, address, &window) && (slot = claim_slot(&window, entry)))
			return slot;
	uint32_t last = orders ? recording_segment(MLF_KIND_LIVE, orders - 1)->capacity : 1024;
	if (recording_add_segment(MLF_KIND_LIVE, orders, last * 2, sizeof(uint64_t) + sizeof(struct mlf_live)) &&
	    window_of(orders, address, &window))
		return claim_slot(&window, entry);
	return NULL;
}

bool liveset_insert(const void *address, enum mlf_layer layer, const struct live_sample *sample)
{
	if (unlikely((uint64_t)(uintptr_t)address & ~MLF_LIVE_KEY_ADDRESS_MASK)) {
		count(address_range);
		return false;
	}
	struct mlf_live *entry;
	uint64_t *slot = claim_anywhere(address, &entry);
	if (unlikely(!slot)) {
		count(live_full);
		return false;
	}
	for (int spins = 0; anyone_clearing(address); spins++)
		if (spins == SPINS_FOR_CLEARING) {
			store_release(slot, SLOT_FREE);
			count(live_race);
			return false;
		}
	bitmap_set(address);

	uint64_t uses = ++entry->uses;
	uint64_t key = key_of(address, layer) | (uses & 0x7FF) << MLF_LIVE_KEY_SEQUENCE_SHIFT;
	entry->size_bytes = sample->size_bytes;
	entry->row = sample->row;
	entry->weight_x1024 = sample->weight_x1024;
	entry->born_cs = sample->born_cs;
	entry->thread = sample->thread;
	entry->check = mlf_live_check(key, sample->size_bytes, sample->row, sample->weight_x1024, sample->born_cs, sample->thread);
	store_release(slot, key); // pairs with the CAS in liveset_remove() and with readers of the file
	return true;
}

// ---- remove --------------------------------------------------------------------------------------

// Does any other sample need this address's bit, or might one soon?
static bool bit_needed(const void *address, const uint64_t *own)
{
	uint32_t bit = bitmap_slot(address);
	struct window window;
	bool needed = false;
	for (unsigned order = 0; window_of(order, address, &window); order++)
		EACH_SLOT(b, i) {
			uint64_t key = load_seq_cst(&window.keys[b][i]);
			bool holds = key != SLOT_FREE && (!(key & MLF_LIVE_KEY_LIVE) || bitmap_slot(shown(key)) == bit);
			needed |= holds && &window.keys[b][i] != own; // by its place: the two buckets may be one
		}
	return needed;
}

// Its counters are what comes next.
static void prefetch_row(uint32_t ref)
{
	const uint64_t *row = recording_at(ref);
	prefetch_write(row);
	prefetch_write(row + 8);
}

// False: another thread was faster.
static NOINLINE bool take(uint64_t *slot, uint64_t key, const struct mlf_live *entry, const void *address, struct live_sample *out)
{
	if (!cas_seq_cst(slot, &key, clearing(address)))
		return false;
	*out = (struct live_sample){entry->size_bytes, entry->row, entry->weight_x1024, entry->born_cs, entry->thread};
	prefetch_row(entry->row);
	if (!bit_needed(address, slot))
		bitmap_clear(address);
	store_release(slot, SLOT_FREE); // after the clear: an inserter that sees it free may set the bit
	return true;
}

bool liveset_remove(const void *address, enum mlf_layer layer, struct live_sample *out)
{
	uint64_t wanted = key_of(address, layer);
	struct window window;
	for (unsigned order = recording_segments(MLF_KIND_LIVE); order-- > 0;) { // the largest first: it holds half of them
		if (!window_of(order, address, &window))
			continue;
		EACH_SLOT(b, i) {
			// Acquire: pairs with the release in liveset_insert(); the entry is whole.
			uint64_t key = load_acquire(&window.keys[b][i]);
			if (unlikely((key & KEY_MATCH_MASK) == wanted) &&
			    take(&window.keys[b][i], key, &window.entries[b][i], address, out))
				return true;
		}
	}
	return false;
}

// ---- look ------------------------------------------------------------------------------------------

// Another thread may be replacing it: `check` tells.
static bool read_entry(uint64_t key, const struct mlf_live *entry, struct live_sample *out)
{
	struct mlf_live seen = *entry;
	*out = (struct live_sample){seen.size_bytes, seen.row, seen.weight_x1024, seen.born_cs, seen.thread};
	return seen.check == mlf_live_check(key, seen.size_bytes, seen.row, seen.weight_x1024, seen.born_cs, seen.thread);
}

bool liveset_find(const void *address, enum mlf_layer layer, struct live_sample *out)
{
	uint64_t wanted = key_of(address, layer);
	struct window window;
	for (unsigned order = 0; window_of(order, address, &window); order++)
		EACH_SLOT(b, i) {
			uint64_t key = load_acquire(&window.keys[b][i]); // pairs with the release in liveset_insert()
			if ((key & KEY_MATCH_MASK) != wanted)
				continue;
			if (read_entry(key, &window.entries[b][i], out))
				return true;
		}
	return false;
}

// ---- walk ----------------------------------------------------------------------------------------

const void *liveset_next(enum mlf_layer layer, uint64_t *cursor)
{
	// cursor = segment << 32 | slot
	const struct recording_table *table;
	for (unsigned order = (unsigned)(*cursor >> 32); (table = recording_segment(MLF_KIND_LIVE, order)); order++) {
		const uint64_t *keys = (const uint64_t *)(const void *)table->base;
		for (uint32_t i = (uint32_t)*cursor; i < table->capacity; i++) {
			uint64_t key = load_relaxed(&keys[i]); // a hint: liveset_remove() looks for itself
			if (!(key & MLF_LIVE_KEY_LIVE) || (key >> MLF_LIVE_KEY_LAYER_SHIFT & 15) != layer)
				continue;
			*cursor = (uint64_t)order << 32 | (i + 1);
			return shown(key);
		}
		*cursor = (uint64_t)(order + 1) << 32;
	}
	return NULL;
}

const void *liveset_next_sample(uint64_t *cursor, uint32_t stride, uint32_t phase, enum mlf_layer *layer, struct live_sample *out)
{
	const struct recording_table *table;
	for (unsigned order = (unsigned)(*cursor >> 32); (table = recording_segment(MLF_KIND_LIVE, order)); order++) {
		const uint64_t *keys = (const uint64_t *)(const void *)table->base;
		const struct mlf_live *entries = (const struct mlf_live *)(const void *)(keys + table->capacity);
		for (uint32_t i = (uint32_t)*cursor; i < table->capacity; i++) {
			if (i % MLF_LIVE_BUCKET == 0 && i / MLF_LIVE_BUCKET % stride != phase) {
				i += MLF_LIVE_BUCKET - 1;
				continue;
			}
			uint64_t key = load_acquire(&keys[i]); // pairs with the release in liveset_insert()
			if (!(key & MLF_LIVE_KEY_LIVE) || !read_entry(key, &entries[i], out))
				continue;
			*cursor = (uint64_t)order << 32 | (i + 1);
			*layer = (enum mlf_layer)(key >> MLF_LIVE_KEY_LAYER_SHIFT & 15);
			return shown(key);
		}
		*cursor = (uint64_t)(order + 1) << 32;
	}
	return NULL;
}
