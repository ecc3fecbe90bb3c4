// test_pools.c -- numbers of pools, and whose memory an address lies in
#include "fixture.h"

#include "pools.h"
#include "stats.h"

#include <sched.h>

static const struct mlf_pool *record_of(unsigned number)
{
	return (const struct mlf_pool *)(const void *)recording_segment(MLF_KIND_POOLS, 0)->base + (number - 1);
}

static const struct mlf_pool_region *region_record(unsigned number)
{
	unsigned order = 0, index = number - 1;
	for (unsigned capacity = 64; index >= capacity; capacity *= 2, order++)
		index -= capacity;
	return (const struct mlf_pool_region *)(const void *)recording_segment(MLF_KIND_POOL_REGIONS, order)->base + index;
}

static void test_names(void)
{
	CHECK(!pools_any());
	CHECK(pools_number(NULL) == 0 && pools_number("") == 0);
	CHECK_EQUAL(pools_number("a"), 1);
	CHECK(pools_any());
	CHECK_EQUAL(pools_number("ab"), 2);
	CHECK_EQUAL(pools_number("a"), 1);
	char name[200];
	memset(name, 'n', sizeof(name));
	name[199] = 0;
	CHECK_EQUAL(pools_number(name), 3);
	name[100] = 'm'; // beyond what is kept
	CHECK_EQUAL(pools_number(name), 3);
	memcpy(name + 62, "\xC3\xA9", 3); // a character that would be cut in two
	CHECK_EQUAL(pools_number(name), 4);
	CHECK_EQUAL(pools_number(name), 4);
	pools_write();
	CHECK(strcmp(record_of(1)->name, "a") == 0 && record_of(1)->state == 1);
	CHECK(strlen(record_of(3)->name) == 63 && strlen(record_of(4)->name) == 62);
	CHECK_EQUAL(record_of(5)->state, 0);
}

static void test_regions(void)
{
	struct pools_region region;
	CHECK(!pools_regions_any() && !pools_region_of(0, 1000, &region));
	CHECK_EQUAL(pools_region_add(1, 1000, 1000), 1);
	CHECK_EQUAL(pools_region_add(2, 1500, 100), 2); // within
	CHECK_EQUAL(pools_region_add(1, 3000, 10), 3);
	CHECK(pools_region_of(0, 1000, &region) && region.number == 1);
	CHECK(pools_region_of(0, 1999, &region) && region.number == 1);
	CHECK(!pools_region_of(0, 2000, &region) && !pools_region_of(0, 999, &region));
	CHECK(pools_region_of(0, 1550, &region) && region.number == 2); // the smallest
	CHECK(pools_region_of(1, 1550, &region) && region.number == 1);
	CHECK_EQUAL(pools_tag(2, 1550), 2U << MLF_LIVE_POOL_SHIFT | 2U << MLF_LIVE_REGION_SHIFT);
	CHECK_EQUAL(pools_tag(2, 1600), 2U << MLF_LIVE_POOL_SHIFT);
	CHECK(pools_disowns(1, 2500) && !pools_disowns(1, 1550) && pools_disowns(2, 1499) && !pools_disowns(3, 2500));
	pools_write();
	CHECK(record_of(1)->capacity_bytes == 1010 && record_of(1)->regions == 2 && record_of(2)->capacity_bytes == 100);
	CHECK(region_record(1)->pool == 1 && region_record(1)->bytes == 1000 && region_record(2)->pool == 2);

	CHECK(!pools_region_end(2, 1000, &region) && !pools_region_end(1, 1001, &region));
	CHECK(pools_region_end(1, 1000, &region) && region.high == 2000);
	CHECK(!pools_region_end(1, 1000, &region));
	pools_write();
	CHECK_EQUAL(region_record(1)->pool, 0);
	CHECK_EQUAL(region_record(2)->pool, 2);
	CHECK_EQUAL(pools_region_add(3, 5000, 5), 1); // its place
	CHECK(pools_region_overlaps(1599, 1600) && pools_region_overlaps(0, 1501) && !pools_region_overlaps(1600, 3000));
	CHECK(!pools_region_take_within(1501, 3009, &region) && !pools_region_take_within(0, 1599, &region));
	CHECK(pools_region_take_within(1500, 3010, &region) && region.number == 2);
	CHECK(pools_region_take_within(1500, 3010, &region) && region.number == 3);
	CHECK(!pools_region_take_within(0, 5004, &region));
	pools_write();
	CHECK(record_of(1)->capacity_bytes == 0 && record_of(1)->regions == 0 && record_of(1)->regions_ended == 2);
	CHECK_EQUAL(region_record(1)->pool, 3);
	CHECK(region_record(2)->pool == 0 && region_record(3)->pool == 0);
	CHECK(pools_region_end(3, 5000, &region) && !pools_regions_any());
}

// Threads that begin and end regions while others ask whose an address is.
static uint32_t wrong;

static void *churn(void *argument)
{
	uintptr_t thread = (uintptr_t)argument, base = 0x100000 * (thread + 1);
	struct pools_region region;
	for (unsigned round = 0; round < 3000; round++) {
		unsigned pool = 1 + (unsigned)thread % 3;
		for (unsigned i = 0; i < 8; i++)
			if (!pools_region_add(pool, base + i * 4096, 4096))
				add_relaxed(&wrong, 1);
		for (unsigned i = 0; i < 8; i++)
			if (!pools_region_of(0, base + i * 4096 + 5, &region) || region.low != base + i * 4096 || region.pool != pool)
				add_relaxed(&wrong, 1);
		if (round % 64 == 0)
			pools_write();
		for (unsigned i = 0; i < 8; i++)
			if (!pools_region_end(pool, base + i * 4096, &region) || region.high != base + (i + 1) * 4096)
				add_relaxed(&wrong, 1);
	}
	return NULL;
}

static void test_threads(void)
{
	in_threads(4, churn);
	CHECK_EQUAL(wrong, 0);
	CHECK(!pools_regions_any());
	pools_write();
	for (unsigned number = 1; number <= 3; number++)
		CHECK(record_of(number)->capacity_bytes == 0 && record_of(number)->regions == 0);
	for (unsigned number = 1; number <= 32; number++)
		CHECK_EQUAL(region_record(number)->pool, 0);
}

// A name that several threads ask for first has one number.
#define ASKING 3U
static uint32_t arrived;

static void *ask(void *unused)
{
	(void)unused;
	char name[16];
	for (unsigned i = 5; i < MLF_POOL_OTHER; i++) {
		snprintf(name, sizeof(name), "pool %u", i);
		add_relaxed(&arrived, 1);
		while (load_relaxed(&arrived) < ASKING * (i - 4)) // at once
			sched_yield();
		if (pools_number(name) != i)
			add_relaxed(&wrong, 1);
	}
	return NULL;
}

static void test_more_than_there_are_places(void)
{
	uint64_t full = stats_value(MLF_COUNTER_pool_full);
	for (unsigned i = 0; i < POOLS_REGIONS_MAX + 5; i++)
		CHECK((pools_region_add(1, 0x1000000 + i * 16, 16) != 0) == (i < POOLS_REGIONS_MAX));
	CHECK_EQUAL(stats_value(MLF_COUNTER_pool_full), full + 5);
	CHECK(!pools_disowns(1, 5)); // it may be in one of the five
	pools_write();
	CHECK_EQUAL(record_of(1)->capacity_bytes, 16 * (POOLS_REGIONS_MAX + 5));
	CHECK_EQUAL(region_record(POOLS_REGIONS_MAX)->bytes, 16);

	in_threads(ASKING, ask);
	CHECK_EQUAL(wrong, 0);
	uint64_t others = stats_value(MLF_COUNTER_pool_other);
	char name[16];
	for (unsigned i = 5; i <= 70; i++) {
		snprintf(name, sizeof(name), "pool %u", i);
		CHECK_EQUAL(pools_number(name), i < MLF_POOL_OTHER ? i : MLF_POOL_OTHER);
	}
	CHECK_EQUAL(stats_value(MLF_COUNTER_pool_other), others + 7);
	CHECK_EQUAL(pools_number("pool 70"), MLF_POOL_OTHER);
	CHECK_EQUAL(pools_number("pool 9"), 9);
	pools_write();
	CHECK(strcmp(record_of(MLF_POOL_OTHER)->name, "other") == 0);
}

// Another recording has them from the beginning.
static void test_another_recording(void)
{
	open_private(RECORDING_START_BYTES);
	CHECK(recording_segment(MLF_KIND_POOLS, 0) == NULL);
	pools_write();
	CHECK(strcmp(record_of(2)->name, "ab") == 0 && record_of(1)->regions == POOLS_REGIONS_MAX + 5);
	CHECK(region_record(7)->pool == 1);
}

int main(void)
{
	open_private(RECORDING_START_BYTES);
	test_names();
	test_regions();
	test_threads();
	test_more_than_there_are_places();
	test_another_recording();
	return harness_end();
}
