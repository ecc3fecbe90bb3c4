// pools.c -- allocators of the program's own: their names, and the memory that each hands out in pieces
//
// Context:   sampled where pools.h says so, else cold. Any thread.
// Invariant: a number, once given, is that name's for the life of the process; a region's place in the table is free (0), HELD by
//            who writes it, or its address, which is stored last. Addresses stand here and not in the file.
// Why:       pools and regions are the process's, recordings come and go: each gets a copy of what is there when it is
//            opened, and of what changes. Regions are few and looked at by sampled code alone: a table is passed through.
// Proof:     tests/native/test_pools.c; tests/integration/test_pools.py
#include "pools.h"

#include "clock.h"
#include "recording.h"
#include "stats.h"
#include "text.h"

#define NAMED (MLF_POOL_OTHER - 1)
#define FREE ((uintptr_t)0)
#define HELD ((uintptr_t)1)
#define REGIONS_FIRST 64U

static struct pool {
	uint64_t key;   // claims the number; 0: not given
	uint32_t ready; // its name is there
	char name[MLF_POOL_NAME_BYTES];
	uint64_t capacity_bytes, regions_ended;
	uint32_t regions, unplaced; // unplaced: regions that found no place in the table
} pools[MLF_POOL_OTHER];
uint32_t pools_given;

static struct place {
	uintptr_t low, high; // low: FREE, HELD, or where it begins
	uint32_t pool, begun_cs;
} places[POOLS_REGIONS_MAX];
static uint32_t high_water, regions_now;

bool pools_regions_any(void) { return load_relaxed(&regions_now) != 0; }

// ---- the file ------------------------------------------------------------------------------------

static struct mlf_pool *pool_record(unsigned number)
{
	const struct recording_table *table = recording_segment(MLF_KIND_POOLS, 0);
	if (!table && recording_add_segment(MLF_KIND_POOLS, 0, MLF_POOL_OTHER, sizeof(struct mlf_pool)))
		table = recording_segment(MLF_KIND_POOLS, 0);
	return table ? (struct mlf_pool *)(void *)table->base + (number - 1) : NULL;
}

static struct mlf_pool_region *region_record(unsigned number, bool make)
{
	uint32_t index = number - 1, capacity = REGIONS_FIRST;
	unsigned order = 0;
	for (; index >= capacity; order++, capacity *= 2)
		index -= capacity;
	const struct recording_table *table = recording_segment(MLF_KIND_POOL_REGIONS, order);
	if (!table && make && recording_add_segment(MLF_KIND_POOL_REGIONS, order, capacity, sizeof(struct mlf_pool_region)))
		table = recording_segment(MLF_KIND_POOL_REGIONS, order);
	return table ? (struct mlf_pool_region *)(void *)table->base + index : NULL;
}

// Two threads at once may each find the other's change in here: both write the latest, one of them twice.
static void write_pool(unsigned number)
{
	const struct pool *pool = &pools[number - 1];
	struct mlf_pool *record = pool_record(number);
	if (!record) {
		count(pool_full);
		return;
	}
	uint64_t bytes;
	do {
		bytes = load_seq_cst(&pool->capacity_bytes);
		store_relaxed(&record->capacity_bytes, bytes);
		store_relaxed(&record->regions, load_relaxed(&pool->regions));
		store_relaxed(&record->regions_ended, load_relaxed(&pool->regions_ended));
	} while (bytes != load_seq_cst(&pool->capacity_bytes));
	if (load_relaxed(&record->state))
		return;
	for (unsigned i = 0; i < MLF_POOL_NAME_BYTES; i++)
		record->name[i] = load_relaxed(&pool->name[i]);
	store_release(&record->state, 1); // pairs with readers of the file
}

// As write_pool(); of two exchanges the later one's thread sees what the other had found, and looks again.
static void write_region(unsigned number)
{
	const struct place *place = &places[number - 1];
	uintptr_t low, high;
	do {
		low = load_acquire(&place->low); // pairs with pools_region_add()
		high = load_relaxed(&place->high);
		uint32_t pool = low != FREE && low != HELD ? load_relaxed(&place->pool) : 0;
		struct mlf_pool_region *record = region_record(number, pool);
		if (!record && pool)
			count(pool_full);
		if (!record || (!pool && !load_relaxed(&record->pool)))
			return;
		if (pool) {
			store_relaxed(&record->bytes, high - low);
			store_relaxed(&record->begun_cs, load_relaxed(&place->begun_cs));
		}
		exchange_acq_rel(&record->pool, pool); // pairs with itself, and with readers of the file
	} while (low != load_acquire(&place->low) || high != load_relaxed(&place->high));
}

void pools_write(void)
{
	for (unsigned number = 1; number <= MLF_POOL_OTHER; number++)
		if (load_acquire(&pools[number - 1].ready)) // pairs with pools_number()
			write_pool(number);
	uint32_t high = load_acquire(&high_water);
	for (uint32_t i = 0; i < high; i++)
		write_region(i + 1); // of one that has ended: that it has
}

// ---- names ---------------------------------------------------------------------------------------

// Bytes of a name that are kept: not within a character.
static unsigned kept_of(const char *name)
{
	unsigned length = 0;
	while (name[length] && length < MLF_POOL_NAME_BYTES - 1)
		length++;
	while (name[length] && length && ((unsigned char)name[length] & 0xC0) == 0x80)
		length--;
	return length;
}

// 64 bits that stand for the name.
static uint64_t key_of(const char *name, unsigned length)
{
	uint64_t key = length * MLF_CHECK_3;
	for (unsigned i = 0; i < length; i++) {
		key = (key ^ (unsigned char)name[i]) * MLF_CHECK_1;
		key ^= key >> 29;
	}
	return key ? key : 1;
}

static void set_name(struct pool *pool, const char *name, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		store_relaxed(&pool->name[i], name[i]); // relaxed: two threads at once write the same
	store_release(&pool->ready, 1); // pairs with who looks at it
}

// By its key, which one thread claims a place with: a name that had two numbers would be freed to another pool.
unsigned pools_number(const char *name)
{
	unsigned length = name ? kept_of(name) : 0;
	if (!length)
		return 0;
	uint64_t key = key_of(name, length);
	for (uint32_t i = 0; i < NAMED; i++) {
		struct pool *pool = &pools[i];
		uint64_t found = load_acquire(&pool->key);
		bool is_new = !found && cas_acq_rel(&pool->key, &found, key);
		if (is_new)
			add_relaxed(&pools_given, 1);
		if ((is_new || found == key) && !load_acquire(&pool->ready)) // the same by whoever is here; or by nobody else, after a fork
			set_name(pool, name, length);
		if (is_new || found == key)
			return i + 1;
	}
	if (!load_relaxed(&pools[NAMED].ready))
		set_name(&pools[NAMED], "other", 5);
	count(pool_other);
	return MLF_POOL_OTHER;
}

// ---- regions -------------------------------------------------------------------------------------

static void note_capacity(unsigned number, uint64_t bytes, int regions)
{
	struct pool *pool = &pools[number - 1];
	add_relaxed(&pool->regions, (uint32_t)regions);
	if (regions < 0)
		add_relaxed(&pool->regions_ended, 1);
	add_seq_cst(&pool->capacity_bytes, bytes);
}

unsigned pools_region_add(unsigned pool, uintptr_t base, size_t bytes)
{
	note_capacity(pool, bytes, 1);
	for (uint32_t i = 0; i < POOLS_REGIONS_MAX; i++) {
		uintptr_t seen = FREE;
		if (load_relaxed(&places[i].low) != FREE || !cas_acq_rel(&places[i].low, &seen, HELD))
			continue;
		store_relaxed(&places[i].high, base + bytes);
		store_relaxed(&places[i].pool, pool);
		store_relaxed(&places[i].begun_cs, clock_now_cs());
		uint32_t high = load_relaxed(&high_water);
		while (high < i + 1 && !cas_acq_rel(&high_water, &high, i + 1))
			;
		store_release(&places[i].low, base); // pairs with who looks
		add_relaxed(&regions_now, 1);
		return i + 1;
	}
	add_relaxed(&pools[pool - 1].unplaced, 1);
	count(pool_full);
	return 0;
}

// What is at a place, if anything is: read twice, for it may be given to another region in between.
static bool look(uint32_t i, struct pools_region *out)
{
	uintptr_t low = load_acquire(&places[i].low); // pairs with pools_region_add()
	if (low == FREE || low == HELD)
		return false;
	*out = (struct pools_region){low, load_relaxed(&places[i].high), load_relaxed(&places[i].pool), i + 1};
	return load_acquire(&places[i].low) == low;
}

static bool take(uint32_t i, struct pools_region *region)
{
	uintptr_t low = region->low;
	if (!cas_acq_rel(&places[i].low, &low, HELD))
		return false;
	region->high = places[i].high;
	region->pool = places[i].pool;
	store_release(&places[i].low, FREE);
	sub_release(&regions_now, 1);
	note_capacity(region->pool, -(uint64_t)(region->high - region->low), -1);
	return true;
}

bool pools_region_end(unsigned pool, uintptr_t base, struct pools_region *out)
{
	uint32_t high = load_acquire(&high_water);
	for (uint32_t i = 0; i < high; i++)
		if (look(i, out) && out->low == base && out->pool == pool && take(i, out))
			return true;
	return false;
}

bool pools_region_take_within(uintptr_t low, uintptr_t high_end, struct pools_region *out)
{
	uint32_t high = load_acquire(&high_water);
	for (uint32_t i = 0; i < high; i++)
		if (look(i, out) && low <= out->low && out->high <= high_end && take(i, out))
			return true;
	return false;
}

bool pools_region_overlaps(uintptr_t low, uintptr_t high_end)
{
	uint32_t high = load_acquire(&high_water);
	struct pools_region region;
	for (uint32_t i = 0; i < high; i++)
		if (look(i, &region) && region.low < high_end && low < region.high)
			return true;
	return false;
}

bool pools_region_of(unsigned pool, uintptr_t p, struct pools_region *out)
{
	uint32_t high = load_acquire(&high_water);
	struct pools_region region;
	bool found = false;
	for (uint32_t i = 0; i < high; i++) {
		// A hint, for nearly all: with 1,800 regions a sampled block takes 3 us, 21 if each is looked at properly (measured).
		uintptr_t low = load_relaxed(&places[i].low);
		if (likely(p - low >= load_relaxed(&places[i].high) - low) || !look(i, &region) || p - region.low >= region.high - region.low ||
		    (pool && region.pool != pool))
			continue;
		if (!found || region.high - region.low < out->high - out->low)
			*out = region;
		found = true;
	}
	return found;
}

uint32_t pools_tag(unsigned pool, uintptr_t p)
{
	struct pools_region region;
	unsigned number = pools_regions_any() && pools_region_of(pool, p, &region) ? region.number : 0;
	return pool << MLF_LIVE_POOL_SHIFT | number << MLF_LIVE_REGION_SHIFT;
}

bool pools_disowns(unsigned pool, uintptr_t p)
{
	struct pools_region region;
	const struct pool *own = &pools[pool - 1];
	return load_relaxed(&own->regions) && !load_relaxed(&own->unplaced) && !pools_region_of(pool, p, &region);
}

void pools_each_region(void (*each)(const struct pools_region *region))
{
	uint32_t high = load_acquire(&high_water);
	struct pools_region region;
	for (uint32_t i = 0; i < high; i++)
		if (look(i, &region))
			each(&region);
}
