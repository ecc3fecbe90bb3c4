// test_owners.c -- who has given out a block, and whether who frees it fits
#include "traced.h"

#include "mismatches.h"
#include "owners.h"
#include "pools.h"
#include "stats.h"

static const char *directory;
static struct registers caller;
static unsigned a, b;
static unsigned char memory_a[1 << 16] __attribute__((aligned(4096))), memory_b[1 << 16] __attribute__((aligned(4096)));

static unsigned suspects(void)
{
	const struct recording_table *table = recording_segment(MLF_KIND_MISMATCHES, 0);
	unsigned n = 0;
	for (unsigned i = 0; table && i < MLF_MISMATCHES; i++)
		n += ((struct mlf_mismatch *)(void *)table->base)[i].state == 2;
	return n;
}

static const struct mlf_mismatch *suspect(unsigned i)
{
	return (const struct mlf_mismatch *)(const void *)recording_segment(MLF_KIND_MISMATCHES, 0)->base + i;
}

static uint64_t seen(void) { return stats_value(MLF_COUNTER_mismatches); }

// As the hooks do it.
static void give(unsigned pool, void *p, size_t bytes, uint32_t weight)
{
	if (!weight && !bitmap_test_hot(p))
		return;
	uint32_t *inside = tracer_enter();
	if (!inside)
		return;
	owners_pool_allocated(pool, p, bytes, &(struct owners_drawn){weight, SAMPLES_OF_BUDGET}, &caller);
	tracer_leave(inside);
}

static void take_back(unsigned pool, void *p, size_t bytes)
{
	if (!bitmap_test_hot(p))
		return;
	uint32_t *inside = tracer_enter();
	if (!inside)
		return;
	owners_pool_freeing(pool, p, bytes, &caller);
	tracer_leave(inside);
}

static void malloc_frees(void *p)
{
	if (!bitmap_test_hot(p))
		return;
	uint32_t *inside = tracer_enter();
	if (!inside)
		return;
	owners_freeing(p, 1, &caller);
	tracer_leave(inside);
}

static void region(unsigned pool, void *base, size_t bytes)
{
	struct pools_region r = {(uintptr_t)base, (uintptr_t)base + bytes, pool, pools_region_add(pool, (uintptr_t)base, bytes)};
	uint32_t *inside = tracer_enter();
	owners_region_begun(&r);
	owners_write();
	tracer_leave(inside);
}

static void end_region(unsigned pool, void *base)
{
	struct pools_region r;
	CHECK(pools_region_end(pool, (uintptr_t)base, &r));
	uint32_t *inside = tracer_enter();
	owners_region_ended(&r, pool);
	tracer_leave(inside);
}

#define ONE SAMPLER_WEIGHT_ONE

static void unmap(void *low, size_t bytes)
{
	uint32_t *inside = tracer_enter();
	owners_unmapping((uintptr_t)low, (uintptr_t)low + bytes);
	tracer_leave(inside);
}

// What was given out in pages that go is gone, and nothing else.
static void test_a_part_of_a_region(void)
{
	struct live_sample sample;
	struct pools_region r;
	unsigned at[] = {0, 4096, 8192 - 32, 8192, 32768};
	for (unsigned i = 0; i < ARRAY_LEN(at); i++)
		give(a, memory_a + at[i], 10, ONE);
	unmap(memory_a + 4096, 4096);
	for (unsigned i = 0; i < ARRAY_LEN(at); i++)
		CHECK_EQUAL(liveset_find(memory_a + at[i], MLF_LAYER_POOL, &sample), i == 0 || i > 2);
	CHECK(pools_region_of(a, (uintptr_t)memory_a, &r) && pools_region_of(a, (uintptr_t)memory_a + 5000, &r));
	for (unsigned i = 0; i < ARRAY_LEN(at); i++)
		if (i == 0 || i > 2) {
			take_back(a, memory_a + at[i], 10);
			give(a, memory_a + at[i], 10, 0); // no mark of it stays
		}
	CHECK_EQUAL(totals_of().live, 2);
	CHECK_EQUAL(seen(), 0);
	// Words of the bitmap before a range, behind it and at its ends.
	bitmap_set(memory_b + 4096);
	CHECK(bitmap_any((uintptr_t)memory_b + 4096, (uintptr_t)memory_b + 4097) && bitmap_any((uintptr_t)memory_b + 3072, (uintptr_t)memory_b + 4097));
	CHECK(!bitmap_any((uintptr_t)memory_b + 1024, (uintptr_t)memory_b + 4096) && !bitmap_any((uintptr_t)memory_b + 5120, (uintptr_t)memory_b + 8192));
	CHECK(bitmap_any(1, 0xFFFFFFFFFULL) && !bitmap_any(5, 5));
	bitmap_clear(memory_b + 4096);
}

static void test_totals(void)
{
	struct rows_held before = tracer_held();
	give(a, memory_a + 64, 100, ONE);
	CHECK_EQUAL(tracer_held().bytes, before.bytes); // within memory that is counted
	CHECK_EQUAL(totals_of().live, 2 + 1);             // and the marks of two regions
	struct live_sample sample;
	CHECK(liveset_find_of_pool(memory_a + 64, MLF_LAYER_POOL, a, &sample) && sample.size_bytes == 100);
	CHECK(!liveset_find_of_pool(memory_a + 64, MLF_LAYER_POOL, b, &sample));
	CHECK_EQUAL(((const struct mlf_row *)recording_at(sample.row))->domain, MLF_POOL_DOMAIN + a);
	take_back(a, memory_a + 64, 100);
	CHECK(!liveset_find(memory_a + 64, MLF_LAYER_POOL, &sample));
	CHECK(liveset_find(memory_a + 64, MLF_LAYER_POOL_FREED, &sample));
	give(a, memory_a + 64, 10, 0); // not sampled: it is not free any more all the same
	CHECK(!liveset_find(memory_a + 64, MLF_LAYER_POOL_FREED, &sample) && !bitmap_test_hot(memory_a + 64));
	CHECK_EQUAL(seen(), 0);
}

static void test_each_kind(void)
{
	give(a, memory_a + 128, 10, ONE);
	take_back(a, memory_a + 128, 11);
	CHECK(suspects() == 1 && suspect(0)->kind == MLF_MISMATCH_POOL_SIZE && suspect(0)->size_bytes == 10 && suspect(0)->freed_bytes == 11);
	take_back(a, memory_a + 128, OWNERS_SIZE_UNKNOWN);
	CHECK(suspects() == 2 && suspect(1)->kind == MLF_MISMATCH_POOL_TWICE && suspect(1)->freed_pool == a);
	take_back(a, memory_a + 128, 5); // and again
	CHECK(suspects() == 2 && suspect(1)->count == 2 && suspect(1)->count_x1024 == 2 * ONE);
	give(a, memory_a + 192, 10, 5 * ONE);
	take_back(b, memory_a + 192, 10);
	CHECK(suspects() == 3 && suspect(2)->kind == MLF_MISMATCH_POOL_POOL && suspect(2)->freed_pool == b && suspect(2)->count_x1024 == 5 * ONE);
	malloc_frees(memory_a + 192);
	CHECK(suspects() == 4 && suspect(3)->kind == MLF_MISMATCH_POOL_FREE && suspect(3)->freed_pool == 0);
	void *block = (void *)0x560000000040;
	hooked_malloc(block, 40);
	take_back(a, block, 40);
	CHECK(suspects() == 5 && suspect(4)->kind == MLF_MISMATCH_MALLOC_POOL);
	malloc_frees(block);
	CHECK(suspects() == 5 && seen() == 6);
	const struct mlf_stack *stack = recording_at(suspect(4)->native_stack);
	CHECK(stack->record.kind == MLF_RECORD_STACK && stack->frames > 0 && suspect(4)->row != 0);
}

// One record for all that is the same, and one for each that differs in anything.
static void test_told_apart(void)
{
	struct mismatches_seen same = {.kind = MLF_MISMATCH_POOL_POOL, .row = 1, .native_stack = 2, .python_stack = 3, .freed_pool = b, .weight_x1024 = ONE};
	struct mismatches_seen others[] = {same, same, same, same, same, same};
	others[0].kind = MLF_MISMATCH_POOL_TWICE;
	others[1].row = 7;
	others[2].native_stack = 7;
	others[3].python_stack = 7;
	others[4].freed_pool = a;
	others[5].target = 7;
	uint32_t *inside = tracer_enter();
	unsigned before = suspects();
	mismatches_add(&same);
	mismatches_add(&same);
	CHECK_EQUAL(suspects(), before + 1);
	for (unsigned i = 0; i < ARRAY_LEN(others); i++)
		mismatches_add(&others[i]);
	CHECK_EQUAL(suspects(), before + 1 + ARRAY_LEN(others));
	tracer_leave(inside);
}

// What looks wrong and is not.
static void test_innocent(void)
{
	uint64_t before = seen();
	struct live_sample sample;
	// Malloc's memory, and the first block in it.
	void *block = (void *)0x560000100000;
	hooked_malloc(block, 4096);
	region(a, block, 4096);
	give(a, block, 100, ONE);
	malloc_frees(block); // with everything in it
	CHECK(!liveset_find(block, MLF_LAYER_POOL, &sample) && !liveset_find(block, MLF_LAYER_POOL_REGION, &sample));
	// The same, and malloc's part was not sampled: what is in there is gone, and other blocks come.
	region(a, block, 4096);
	give(a, block, 100, ONE);
	give(a, (char *)block + 64, 100, ONE);
	malloc_frees(block);
	malloc_frees((char *)block + 64); // another block by now
	CHECK(!liveset_find((char *)block + 64, MLF_LAYER_POOL, &sample));
	// A slab of b in a block of a.
	give(a, memory_a + 256, 512, ONE);
	region(b, memory_a + 256, 512);
	give(b, memory_a + 256, 64, 0);
	take_back(b, memory_a + 256, 64);
	give(b, memory_a + 256, 64, ONE);
	take_back(b, memory_a + 256, 64);
	end_region(b, memory_a + 256);
	take_back(a, memory_a + 256, 512);
	// What a region held is gone with it, from the rows as well.
	struct totals totals = totals_of();
	region(b, memory_a + 1024, 512);
	give(b, memory_a + 1024, 64, ONE);
	give(b, memory_a + 1088, 64, ONE);
	give(a, memory_a + 1152, 64, ONE); // another pool's
	end_region(b, memory_a + 1024);
	CHECK_EQUAL(totals_of().row_samples, totals.row_samples + 1);
	CHECK_EQUAL(totals_of().live, totals.live + 1);
	take_back(a, memory_a + 1152, 64);
	// A pool that passes on to malloc: sampled there alone, and in both.
	for (uint32_t weight = 0; weight <= ONE; weight += ONE) {
		hooked_malloc(block, 40);
		give(a, block, 40, weight);
		take_back(a, block, 40);
		malloc_frees(block);
		CHECK(!bitmap_test_hot(block) || weight);
		give(a, block, 40, 0);
		take_back(a, block, 40);
	}
	// The first of what a pool has cut out of malloc's memory, not sampled, and freed to another: not malloc's block.
	for (unsigned told = 0; told < 2; told++) {
		hooked_malloc(block, 4096);
		if (told)
			region(a, block, 4096);
		give(a, block, 64, 0);
		take_back(b, block, 64);
		CHECK(liveset_find(block, MLF_LAYER_MALLOC, &sample));
		malloc_frees(block);
	}
	// A pool that knows no regions is not compared by address.
	unsigned c = pools_number("c");
	hooked_malloc(block, 40);
	take_back(c, block, 40);
	malloc_frees(block);
	// Never seen before.
	take_back(a, memory_b + 640, 1);
	malloc_frees(memory_b + 640);
	CHECK_EQUAL(seen(), before);
	CHECK(!liveset_find(block, MLF_LAYER_POOL_GIVEN, &sample));
}

// Marks of freed blocks are few: the oldest goes first.
static void test_marks_are_bounded(void)
{
	enum { BLOCKS = 3000 };
	struct live_sample sample;
	unsigned marks = 0;
	uint64_t live = totals_of().live;
	for (unsigned i = 0; i < BLOCKS; i++) {
		void *p = (void *)(0x570000000000 + (uintptr_t)i * 64);
		give(a, p, 10, ONE);
		take_back(a, p, 10);
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		marks += liveset_find((void *)(0x570000000000 + (uintptr_t)i * 64), MLF_LAYER_POOL_FREED, &sample);
	CHECK_EQUAL(marks, 1024);
	CHECK(totals_of().live <= live + 1024);
	CHECK(liveset_find((void *)(0x570000000000 + (uintptr_t)(BLOCKS - 1) * 64), MLF_LAYER_POOL_FREED, &sample));
}

static void test_more_than_there_are_places(void)
{
	uint64_t full = stats_value(MLF_COUNTER_mismatch_full), before = seen();
	unsigned at_first = suspects();
	for (unsigned i = 0; i < 100; i++) { // each from another place, as far as is told
		caller.pc = (uintptr_t)&test_marks_are_bounded + i;
		give(a, memory_a + 4096, 10, ONE);
		take_back(a, memory_a + 4096, 11);
	}
	caller = REGISTERS_OF_CALLER();
	CHECK_EQUAL(suspects(), MLF_MISMATCHES);
	CHECK_EQUAL(seen(), before + 100);
	CHECK_EQUAL(stats_value(MLF_COUNTER_mismatch_full), full + 100 - (MLF_MISMATCHES - at_first));
}

// Threads at one pool: what one frees another may be given at once.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *stock[64];
static unsigned stocked;

static void *trade(void *argument)
{
	uint64_t state = (uintptr_t)argument + 77;
	void *held[8] = {0};
	for (unsigned i = 0; i < 20000; i++) {
		unsigned at = (unsigned)random_below(&state, 8);
		if (held[at])
			take_back(b, held[at], 24);
		pthread_mutex_lock(&lock);
		if (held[at])
			stock[stocked++] = held[at];
		held[at] = stocked ? stock[--stocked] : NULL;
		pthread_mutex_unlock(&lock);
		if (held[at])
			give(b, held[at], 24, random_below(&state, 2) ? ONE : 0);
	}
	for (unsigned at = 0; at < 8; at++)
		if (held[at])
			take_back(b, held[at], 24);
	return NULL;
}

static void test_threads(void)
{
	uint64_t before = seen();
	for (unsigned i = 0; i < 40; i++)
		stock[stocked++] = memory_b + 8192 + i * 32;
	in_threads(4, trade);
	CHECK_EQUAL(seen(), before);
	struct live_sample sample;
	for (unsigned i = 0; i < 40; i++)
		CHECK(!liveset_find(memory_b + 8192 + i * 32, MLF_LAYER_POOL, &sample));
}

// Nothing of the last recording is known in the next; regions are.
static void test_another_recording(void)
{
	give(a, memory_a + 64, 100, ONE);
	tracer_stop(MLF_STATE_STOPPED);
	take_back(a, memory_a + 64, 99);
	start_tracing(directory, SAMPLER_FULL, true);
	struct live_sample sample;
	CHECK(!liveset_find(memory_a + 64, MLF_LAYER_POOL, &sample));
	CHECK(liveset_find(memory_a, MLF_LAYER_POOL_REGION, &sample) && sample.size_bytes == sizeof(memory_a));
	take_back(a, memory_a + 64, 99);
	CHECK_EQUAL(suspects(), 0);
	give(a, memory_a + 64, 100, ONE);
	take_back(b, memory_a + 64, 100);
	CHECK_EQUAL(suspects(), 1);
}

static void frees_what_the_parent_has(void)
{
	give(a, memory_a + 512, 10, ONE); // no recording yet
	take_back(a, memory_a + 64, 1);
	for (unsigned i = 0; i < 2000; i++)
		hooked_call(16);
	CHECK(tracer_is_recording());
	take_back(a, memory_a + 64, 1);
	CHECK_EQUAL(suspects(), 0);
	give(a, memory_a + 64, 10, ONE);
	take_back(a, memory_a + 64, 1);
	CHECK_EQUAL(suspects(), 1);
}

int main(void)
{
	directory = temporary_directory();
	caller = REGISTERS_OF_CALLER();
	start_tracing(directory, SAMPLER_FULL, true);
	a = pools_number("a");
	b = pools_number("b");
	region(a, memory_a, sizeof(memory_a));
	region(b, memory_b, sizeof(memory_b));
	test_totals();
	test_a_part_of_a_region();
	test_each_kind();
	test_told_apart();
	test_innocent();
	test_marks_are_bounded();
	test_more_than_there_are_places();
	test_threads();
	test_another_recording();
	in_child(frees_what_the_parent_has);
	tracer_stop(MLF_STATE_STOPPED);
	remove_directory(directory);
	return harness_end();
}
