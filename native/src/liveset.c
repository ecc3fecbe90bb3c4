// liveset.c -- which addresses are live samples
//
// Context:   sampled. Any thread; one stopped anywhere stops no other (it may make others drop, counted).
// Invariant: a slot is free (0), LIVE, or held (CLAIMED, CLEARING, MOVING, DOOMED) by one thread. A sample stands in
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
// Moving:    who gives a sample another row or weight holds its slot MOVING, the key without MLF_LIVE_KEY_LIVE. A remover that meets
//            that looks again a few times, then says DOOMED and goes: the mover finds that when it publishes, and takes the
//            sample out itself. So a removal is never lost and nobody waits, however long a mover is stopped. Until then
//            the slot counts as one that needs its bit, as any held one does.
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

// A key that is being moved lacks MLF_LIVE_KEY_LIVE and has its layer, which no other state has; doomed, its sequence is 0.
#define SLOT_SEQUENCE_MASK (0x7FFULL << MLF_LIVE_KEY_SEQUENCE_SHIFT)

#define CHANGES 8U // that are told apart: of more in a row a thread that was stopped in between would have to miss just so many
#define SPINS_FOR_CLEARING 256 // a remover holds CLEARING for ~20 ns unless it is preempted
#define SPINS_FOR_MOVING 256   // and a mover MOVING for ~10

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

// Where a key's sequence comes from: insertions into the slot, and in the lowest bits changes since the last of them, which
// come round. Relaxed: only who holds the slot writes it, and liveset_look() asks the key whether what it saw belongs to it.
static uint64_t sequence_of(uint32_t uses) { return (uint64_t)(uses & 0x7FF) << MLF_LIVE_KEY_SEQUENCE_SHIFT; }

static uint64_t key_of_insertion(const void *address, enum mlf_layer layer, struct mlf_live *entry)
{
	uint32_t uses = (entry->uses / CHANGES + 1) * CHANGES;
	if (unlikely(!sequence_of(uses))) // is DOOMED's
		uses += CHANGES;
	store_relaxed(&entry->uses, uses);
	return key_of(address, layer) | sequence_of(uses);
}

static uint64_t key_of_change(const void *address, enum mlf_layer layer, struct mlf_live *entry)
{
	uint32_t uses = entry->uses / CHANGES * CHANGES + (entry->uses + 1) % CHANGES;
	store_relaxed(&entry->uses, uses);
	return key_of(address, layer) | sequence_of(uses);
}

static uint32_t slot_number(const uint64_t *slot) { return (uint32_t)(((const unsigned char *)slot - recording.base) / sizeof(*slot)); }

enum liveset_inserted liveset_try_insert(const void *address, enum mlf_layer layer, const struct live_sample *sample,
					 struct liveset_place *place)
{
	if (unlikely((uint64_t)(uintptr_t)address & ~MLF_LIVE_KEY_ADDRESS_MASK)) {
		count(address_range);
		return LIVESET_DROPPED;
	}
	struct mlf_live *entry;
	uint64_t *slot = claim_anywhere(address, &entry);
	if (unlikely(!slot))
		return LIVESET_FULL;
	for (int spins = 0; anyone_clearing(address); spins++)
		if (spins == SPINS_FOR_CLEARING) {
			store_release(slot, SLOT_FREE);
			count(live_race);
			return LIVESET_DROPPED;
		}
	bitmap_set(address);

	uint64_t key = key_of_insertion(address, layer, entry);
	// Relaxed, each by itself: who looks without holding the slot believes nothing but by `check`.
	store_relaxed(&entry->size_bytes, sample->size_bytes);
	store_relaxed(&entry->row, sample->row);
	store_relaxed(&entry->weight_x1024, sample->weight_x1024);
	store_relaxed(&entry->born_cs, sample->born_cs);
	store_relaxed(&entry->thread, sample->thread);
	store_relaxed(&entry->check, mlf_live_check(key, sample->size_bytes, sample->row, sample->weight_x1024, sample->born_cs, sample->thread));
	*place = (struct liveset_place){key, slot_number(slot), entry->uses / CHANGES};
	store_release(slot, key); // pairs with the CAS in liveset_remove() and with readers of the file
	return LIVESET_INSERTED;
}

bool liveset_insert(const void *address, enum mlf_layer layer, const struct live_sample *sample)
{
	struct liveset_place place;
	enum liveset_inserted done = liveset_try_insert(address, layer, sample, &place);
	if (unlikely(done == LIVESET_FULL))
		count(live_full);
	return done == LIVESET_INSERTED;
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

// The slot is held: its sample goes.
static void let_go(uint64_t *slot, const void *address)
{
	if (!bit_needed(address, slot))
		bitmap_clear(address);
	store_release(slot, SLOT_FREE); // after the clear: an inserter that sees it free may set the bit
}

// False: another thread was faster.
static inline bool claim_sample(uint64_t *slot, uint64_t key, const struct mlf_live *entry, const void *address, struct live_sample *out)
{
	if (!cas_seq_cst(slot, &key, clearing(address)))
		return false;
	*out = (struct live_sample){entry->size_bytes, entry->row, entry->weight_x1024, entry->born_cs, entry->thread};
	return true;
}

static NOINLINE bool take(uint64_t *slot, uint64_t key, const struct mlf_live *entry, const void *address, struct live_sample *out)
{
	if (!claim_sample(slot, key, entry, address, out))
		return false;
	prefetch_row(out->row);
	let_go(slot, address);
	return true;
}

// The pool of an entry that may be another's by now: who takes it out compares the key afterwards.
static bool is_of_pool(const struct mlf_live *entry, unsigned pool)
{
	return pool == 0 || (load_relaxed(&entry->thread) >> MLF_LIVE_POOL_SHIFT & MLF_LIVE_POOL_MASK) == pool;
}

static bool is_wanted(uint64_t key, uint64_t wanted) { return ((key ^ wanted) & (KEY_MATCH_MASK & ~MLF_LIVE_KEY_LIVE)) == 0; }

// A slot that was seen with the sample, live or being moved. Bounded: a place is given another row once, and each time that it
// takes over another sample its weight grows, up to LIVESET_WEIGHT_MAX.
static NOINLINE bool take_or_doom(uint64_t *slot, uint64_t wanted, const struct mlf_live *entry, const void *address,
				  unsigned pool, struct live_sample *out)
{
	for (unsigned spins = 0;; spins++) {
		// Acquire: pairs with the releases of liveset_try_insert() and liveset_move(); the entry is whole.
		uint64_t key = load_acquire(slot);
		if (!is_wanted(key, wanted) || !(key & SLOT_SEQUENCE_MASK) || !is_of_pool(entry, pool))
			return false; // another thread was faster
		if (key & MLF_LIVE_KEY_LIVE) {
			if (take(slot, key, entry, address, out))
				return true;
		} else if (spins >= SPINS_FOR_MOVING && cas_seq_cst(slot, &key, key & ~SLOT_SEQUENCE_MASK)) {
			count(live_race);
			return false;
		}
	}
}

static inline bool remove_of(const void *address, enum mlf_layer layer, unsigned pool, struct live_sample *out)
{
	uint64_t wanted = key_of(address, layer);
	struct window window;
	for (unsigned order = recording_segments(MLF_KIND_LIVE); order-- > 0;) { // the largest first: it holds half of them
		if (!window_of(order, address, &window))
			continue;
		EACH_SLOT(b, i)
			if (unlikely(is_wanted(load_relaxed(&window.keys[b][i]), wanted)) && // a hint: take_or_doom() looks again
			    take_or_doom(&window.keys[b][i], wanted, &window.entries[b][i], address, pool, out))
				return true;
	}
	return false;
}

bool liveset_remove(const void *address, enum mlf_layer layer, struct live_sample *out)
{
	return remove_of(address, layer, 0, out);
}

bool liveset_remove_of_pool(const void *address, enum mlf_layer layer, unsigned pool, struct live_sample *out)
{
	return remove_of(address, layer, pool, out);
}

// ---- look ------------------------------------------------------------------------------------------

// Another thread may be replacing it: `check` tells.
static bool read_entry(const struct mlf_live *entry, uint64_t key, struct live_sample *out)
{
	*out = (struct live_sample){load_relaxed(&entry->size_bytes), load_relaxed(&entry->row), load_relaxed(&entry->weight_x1024),
				    load_relaxed(&entry->born_cs), load_relaxed(&entry->thread)};
	return load_relaxed(&entry->check) == mlf_live_check(key, out->size_bytes, out->row, out->weight_x1024, out->born_cs, out->thread);
}

bool liveset_find(const void *address, enum mlf_layer layer, struct live_sample *out)
{
	return liveset_find_of_pool(address, layer, 0, out);
}

bool liveset_find_of_pool(const void *address, enum mlf_layer layer, unsigned pool, struct live_sample *out)
{
	uint64_t wanted = key_of(address, layer);
	struct window window;
	for (unsigned order = 0; window_of(order, address, &window); order++)
		EACH_SLOT(b, i) {
			uint64_t key = load_acquire(&window.keys[b][i]); // pairs with the release in liveset_try_insert()
			if ((key & KEY_MATCH_MASK) == wanted && is_of_pool(&window.entries[b][i], pool) &&
			    read_entry(&window.entries[b][i], key, out))
				return true;
		}
	return false;
}

// ---- move ------------------------------------------------------------------------------------------

static uint64_t *slot_of(const struct liveset_place *place, struct mlf_live **entry)
{
	uint64_t *slot = (uint64_t *)(void *)recording.base + place->slot;
	const struct recording_table *table;
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_LIVE, order)); order++) {
		uint64_t *keys = (uint64_t *)(void *)table->base;
		*entry = (struct mlf_live *)(void *)(keys + table->capacity) + (slot - keys);
		if (slot >= keys && slot < keys + table->capacity)
			return slot;
	}
	return NULL;
}

bool liveset_look(struct liveset_place *place, struct live_sample *out)
{
	struct mlf_live *entry;
	const uint64_t *slot = slot_of(place, &entry);
	uint64_t key = slot ? load_acquire(slot) : 0; // pairs with the releases of liveset_try_insert() and change()
	uint32_t uses = slot ? load_relaxed(&entry->uses) : 0;
	if ((key ^ place->key) & KEY_MATCH_MASK || uses / CHANGES != place->insertion || sequence_of(uses) != (key & SLOT_SEQUENCE_MASK))
		return false;
	place->key = key;
	return slot && read_entry(entry, key, out);
}

// NULL: another thread was faster.
static uint64_t *hold(const struct liveset_place *place, struct mlf_live **entry)
{
	uint64_t *slot = slot_of(place, entry), key = place->key;
	return slot && cas_seq_cst(slot, &key, key & ~MLF_LIVE_KEY_LIVE) ? slot : NULL;
}

// What is held is let go of, with another row or weight; 0: as it is.
static enum liveset_moved publish(uint64_t *slot, uint64_t key, struct mlf_live *entry, uint32_t row, uint32_t weight_x1024)
{
	const void *address = shown(key);
	uint64_t moving = key & ~MLF_LIVE_KEY_LIVE;
	// Another sequence: a reader that has seen the one key and then sees the other drops what it read in between.
	key = key_of_change(address, (enum mlf_layer)(key >> MLF_LIVE_KEY_LAYER_SHIFT & 15), entry);
	row = row ? row : entry->row;
	weight_x1024 = weight_x1024 ? weight_x1024 : entry->weight_x1024;
	store_relaxed(&entry->row, row);
	store_relaxed(&entry->weight_x1024, weight_x1024);
	uint32_t check = mlf_live_check(key, entry->size_bytes, row, weight_x1024, entry->born_cs, entry->thread);
	store_relaxed(&entry->check, check);
	if (likely(cas_seq_cst(slot, &moving, key)))
		return LIVESET_MOVED;
	store_seq_cst(slot, clearing(address)); // it was doomed: nobody else touches it
	let_go(slot, address);
	return LIVESET_REMOVED;
}

enum liveset_moved liveset_move(const struct liveset_place *place, uint32_t row)
{
	struct mlf_live *entry;
	uint64_t *slot = hold(place, &entry);
	return slot ? publish(slot, place->key, entry, row, 0) : LIVESET_GONE;
}

bool liveset_merge(const struct liveset_place *stays, const struct liveset_place *goes, uint32_t weight_x1024, struct live_sample *gone,
		   enum liveset_moved *kept)
{
	struct mlf_live *entry, *other;
	uint64_t *slot = hold(stays, &entry), *from = slot_of(goes, &other);
	*kept = LIVESET_GONE;
	if (!slot)
		return false;
	// Nobody waits for what is held: two threads that want one pair the other way round both fail.
	const void *address = shown(goes->key);
	bool claimed = from && claim_sample(from, goes->key, other, address, gone);
	*kept = publish(slot, stays->key, entry, 0, claimed ? weight_x1024 : 0);
	if (claimed)
		let_go(from, address); // last: beside one that is held no bit is cleared
	return claimed;
}

// ---- what may be merged ----------------------------------------------------------------------------

#define KINDS (2 + MLF_LIVE_POOL_MASK + 1)

struct kinds {
	uint64_t bits[KINDS / 64 + 1];
};

static bool is_among(const struct kinds *kinds, unsigned kind) { return kinds->bits[kind / 64] >> kind % 64 & 1; }

static void add_kind(struct kinds *kinds, unsigned kind) { kinds->bits[kind / 64] |= 1ULL << kind % 64; }

// What may be merged with what: 0 for nothing, 1 for what totals count, others for each pool.
static unsigned kind_of(uint64_t key, uint64_t size_bytes, uint32_t weight_x1024, uint32_t thread)
{
	unsigned layer = (unsigned)(key >> MLF_LIVE_KEY_LAYER_SHIFT & 15);
	if (!(key & MLF_LIVE_KEY_LIVE) || layer == MLF_LAYER_MMAP || layer >= MLF_LAYER_NO_SAMPLE)
		return 0; // a mapping is cut by the byte
	if (size_bytes >= LIVESET_MERGED_BELOW || weight_x1024 > LIVESET_WEIGHT_MAX / 2)
		return 0; // what is so large stands for itself
	return layer == MLF_LAYER_POOL ? 2 + (thread >> MLF_LIVE_POOL_SHIFT & MLF_LIVE_POOL_MASK) : 1;
}

struct pick {
	uint64_t value;
	unsigned kind;
	struct liveset_place place;
	struct live_sample sample;
};

static unsigned buckets_of(const struct window *window) { return 1 + (window->keys[0] != window->keys[1]); }

// The two that stand for the fewest bytes, of kinds among *of (NULL: any).
static NOINLINE bool pick_two(const void *address, const struct kinds *of, struct pick pick[2])
{
	struct window window;
	pick[0].value = pick[1].value = UINT64_MAX;
	for (unsigned order = 0; window_of(order, address, &window); order++)
		for (unsigned b = 0; b < buckets_of(&window); b++)
			for (unsigned i = 0; i < MLF_LIVE_BUCKET; i++) {
				const struct mlf_live *entry = &window.entries[b][i];
				uint64_t key = load_acquire(&window.keys[b][i]); // pairs with the release in liveset_try_insert()
				struct live_sample seen = {.size_bytes = load_relaxed(&entry->size_bytes),
							   .weight_x1024 = load_relaxed(&entry->weight_x1024)};
				// A hint: most of them are passed over by it.
				if (likely(liveset_value(&seen) >= pick[1].value) || !read_entry(entry, key, &seen))
					continue;
				unsigned kind = kind_of(key, seen.size_bytes, seen.weight_x1024, seen.thread);
				uint64_t value = liveset_value(&seen);
				if (!kind || value >= pick[1].value || (of && !is_among(of, kind)))
					continue;
				bool is_second = value >= pick[0].value;
				if (!is_second)
					pick[1] = pick[0];
				pick[is_second] = (struct pick){value, kind, {key, slot_number(&window.keys[b][i]), 0}, seen};
			}
	return pick[1].value != UINT64_MAX;
}

// Kinds that two are of, as far as can be seen.
static NOINLINE struct kinds kinds_of_two(const void *address)
{
	struct kinds once = {{0}}, twice = {{0}};
	struct window window;
	for (unsigned order = 0; window_of(order, address, &window); order++)
		for (unsigned b = 0; b < buckets_of(&window); b++)
			for (unsigned i = 0; i < MLF_LIVE_BUCKET; i++) {
				const struct mlf_live *entry = &window.entries[b][i];
				unsigned kind = kind_of(load_relaxed(&window.keys[b][i]), load_relaxed(&entry->size_bytes),
							load_relaxed(&entry->weight_x1024), load_relaxed(&entry->thread));
				add_kind(is_among(&once, kind) && kind ? &twice : &once, kind);
			}
	return twice;
}

bool liveset_lightest(const void *address, struct liveset_place place[2], struct live_sample sample[2])
{
	struct pick pick[2];
	bool found = pick_two(address, NULL, pick);
	if (unlikely(found && pick[0].kind != pick[1].kind)) { // what is the only one of its kind is passed over
		struct kinds of = kinds_of_two(address), one = {{0}};
		found = pick_two(address, &of, pick);
		if (found && pick[0].kind != pick[1].kind) {
			add_kind(&one, pick[0].kind);
			found = pick_two(address, &one, pick);
		}
	}
	for (unsigned i = 0; found && i < 2; i++) {
		place[i] = pick[i].place;
		sample[i] = pick[i].sample;
	}
	return found;
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
			if ((key >> MLF_LIVE_KEY_LAYER_SHIFT & 15) != layer) // of held ones only those that are moved have one
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
			uint64_t key = load_acquire(&keys[i]); // pairs with the release in liveset_try_insert()
			unsigned of = (unsigned)(key >> MLF_LIVE_KEY_LAYER_SHIFT & 15);
			if (!(key & MLF_LIVE_KEY_LIVE) || of == MLF_LAYER_POOL || of >= MLF_LAYER_NO_SAMPLE || !read_entry(&entries[i], key, out))
				continue;
			*cursor = (uint64_t)order << 32 | (i + 1);
			*layer = (enum mlf_layer)of;
			return shown(key);
		}
		*cursor = (uint64_t)(order + 1) << 32;
	}
	return NULL;
}
