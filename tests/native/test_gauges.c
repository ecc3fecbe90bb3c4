// test_gauges.c -- names and values of gauges, before a recording, in it, and in the next one
#include "fixture.h"

#include "clock.h"
#include "gauges.h"
#include "stats.h"

#include <sys/wait.h>

static uint32_t number(const char *name) { return gauges_number(name, strlen(name)); }

static struct mlf_gauge *record(unsigned order, unsigned index)
{
	const struct recording_table *table = recording_segment(MLF_KIND_GAUGES, order);
	return table ? (struct mlf_gauge *)(void *)table->base + index : NULL;
}

static struct mlf_gauge *own(uint32_t n) { return record(1 + (n - 1) / MLF_GAUGES_EACH, (n - 1) % MLF_GAUGES_EACH); }

static bool is_named(const struct mlf_gauge *gauge, const char *name)
{
	return gauge && gauge->state == MLF_GAUGE_NAMED && gauge->name_bytes == strlen(name) &&
	       memcmp(gauge->name, name, gauge->name_bytes) == 0;
}

static void set(uint32_t n, int64_t value)
{
	CHECK(gauges_keep(n, value));
	gauges_write(n);
}

static void at_cs(uint32_t cs) { clock_set_start(clock_monotonic_ns() - cs * 10000000ULL); }

// The value that a level's period has; INT64_MIN: none.
static int64_t slot(const struct mlf_gauge *gauge, unsigned level, uint32_t tick)
{
	uint32_t period = tick >> 2 * level;
	uint64_t word = gauge->slot[level * 16 + period % 16], value = word & ((1ULL << 40) - 1);
	if (word >> 40 != 1 + period % 0xFFFFFF)
		return INT64_MIN;
	int64_t magnitude = (int64_t)((value & ((1ULL << 33) - 1)) << (value >> 33 & 63));
	return value >> 39 ? -magnitude : magnitude;
}

static void test_names(void)
{
	static const char *const bad[] = {"", "1st", "a b", "a=b", "ä", "-x", "a\n", "0123456789012345678901234567890123456789012345678"};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_EQUAL(number(bad[i]), 0);
	char longest[50];
	memset(longest, 'x', sizeof(longest));
	CHECK_EQUAL(gauges_number(longest, 49), 0);
	CHECK_EQUAL(number("open_tables"), 1);
	CHECK_EQUAL(number("pool.size:db/1-a"), 2);
	CHECK_EQUAL(number("open_tables"), 1);
	CHECK_EQUAL(gauges_number(longest, 48), 3);
	CHECK_EQUAL(stats_counters[MLF_COUNTER_gauge_full], 0);
	CHECK_EQUAL(gauges_given(), 3);
}

static void test_values_without_a_recording(void)
{
	int64_t value = 77;
	CHECK(!gauges_value(1, &value) && value == 77);
	CHECK(gauges_add(1, -3) && gauges_value(1, &value) && value == -3);
	CHECK(gauges_keep(1, 10) && gauges_add(1, 5) && gauges_value(1, &value) && value == 15);
	CHECK(!gauges_keep(0, 1) && !gauges_keep(60, 1) && !gauges_add(65, 1) && !gauges_keep(UINT32_MAX, 1));
}

static void test_in_the_recording(void)
{
	CHECK(record(0, 0) && record(0, 0)->state == MLF_GAUGE_EMPTY && !record(1, 0));
	at_cs(4010);
	gauges_write(1);
	CHECK(is_named(own(1), "open_tables") && own(1)->value == 15 && own(1)->tick == 11);
	CHECK(own(1)->first_cs >= 4010 && own(1)->first_cs < 4100);
	gauges_write(2);
	CHECK(is_named(own(2), "pool.size:db/1-a") && own(2)->first_cs == 0 && own(2)->tick == 0);
	CHECK_EQUAL(own(3)->state, MLF_GAUGE_EMPTY);
}

static void test_history(void)
{
	CHECK_EQUAL(slot(own(1), 0, 11), 15);
	CHECK_EQUAL(slot(own(1), 1, 11), INT64_MIN);
	set(1, 16);
	set(1, -20); // within the tick
	CHECK_EQUAL(slot(own(1), 0, 11), -20);
	at_cs(4900); // tick 13
	set(1, -20); // no change: only that it was set
	CHECK(own(1)->tick == 11 && own(1)->set_cs >= 4900 && own(1)->changed_cs < 4100);
	set(1, 30);
	CHECK(own(1)->tick == 13 && slot(own(1), 0, 11) == -20 && slot(own(1), 0, 13) == 30);
	CHECK(slot(own(1), 1, 11) == -20 && slot(own(1), 5, 11) == -20);
	at_cs(40000); // tick 101
	set(1, 40);
	CHECK(slot(own(1), 1, 13) == 30 && slot(own(1), 2, 13) == 30 && slot(own(1), 0, 101) == 40);
}

static void test_large_values(void)
{
	static const int64_t exact[] = {0, 1, -1, 8589934591, -8589934591, 8589934592, INT64_C(1) << 62, INT64_MIN + 1};
	uint32_t cs = 50000;
	for (unsigned i = 0; i < ARRAY_LEN(exact); i++) {
		at_cs(cs += 400);
		set(2, exact[i]);
		int64_t seen = slot(own(2), 0, own(2)->tick);
		CHECK(own(2)->value == exact[i]);
		CHECK(fabs((double)seen - (double)exact[i]) <= fabs((double)exact[i]) * 2.4e-10);
		CHECK((exact[i] >= INT64_C(1) << 33 || exact[i] <= -(INT64_C(1) << 33)) || seen == exact[i]);
	}
}

static void *hammer(void *argument)
{
	uintptr_t thread = (uintptr_t)argument;
	uint32_t own_one = number("hammered");
	for (int64_t i = 0; i < 100000; i++) {
		set(own_one, (int64_t)thread * 1000000 + i);
		CHECK(gauges_add(number("counted"), i % 2 ? 3 : -2));
		gauges_write(number("counted"));
	}
	return NULL;
}

static void test_threads(void)
{
	in_threads(4, hammer);
	int64_t value;
	uint32_t n = number("hammered"), counted = number("counted");
	CHECK(n && counted && n != counted);
	CHECK(gauges_value(n, &value) && value % 1000000 == 99999);
	CHECK_EQUAL(own(n)->value, value); // who stored last has written last
	CHECK(gauges_value(counted, &value) && value == 4 * 50000);
	CHECK_EQUAL(own(counted)->value, value);
	CHECK(is_named(own(n), "hammered") && is_named(own(counted), "counted"));
}

#define PAIR_ROUNDS 30000U
static uint32_t met, pair_wrong;

// Two that set at the same moment: what is written last is what is kept, each time.
static void *set_beside(void *argument)
{
	uint32_t thread = (uint32_t)(uintptr_t)argument, n = number("hammered");
	for (uint32_t round = 0; round < PAIR_ROUNDS; round++) {
		meet(&met, 2, 3 * round + 1);
		set(n, (int64_t)round * 2 + thread);
		meet(&met, 2, 3 * round + 2);
		int64_t value = 0;
		if (thread == 0)
			pair_wrong += !gauges_value(n, &value) || own(n)->value != value;
		meet(&met, 2, 3 * round + 3);
	}
	return NULL;
}

static void test_two_at_once(void)
{
	in_threads(2, set_beside);
	CHECK_EQUAL(pair_wrong, 0);
}

static void *take_names(void *argument)
{
	char name[16];
	for (unsigned i = 0; i < 100; i++) {
		unsigned which = (i * 7 + (unsigned)(uintptr_t)argument * 31) % 100;
		snprintf(name, sizeof(name), "g%u", which);
		uint32_t n = number(name);
		CHECK(n <= MLF_GAUGES && n == number(name));
	}
	return NULL;
}

static void test_the_numbers_end(void)
{
	uint32_t before = gauges_given();
	in_threads(4, take_names);
	CHECK_EQUAL(gauges_given(), MLF_GAUGES);
	unsigned found = 0;
	for (unsigned i = 0; i < 100; i++) {
		char name[16];
		snprintf(name, sizeof(name), "g%u", i);
		found += number(name) != 0;
	}
	CHECK_EQUAL(found, MLF_GAUGES - before); // no name has two
	CHECK(stats_counters[MLF_COUNTER_gauge_full] > 0);
	set(MLF_GAUGES, 5);
	CHECK(own(MLF_GAUGES)->value == 5 && own(MLF_GAUGES)->state == MLF_GAUGE_NAMED);
}

static void test_a_child_has_names_and_no_values(void)
{
	pid_t child = fork();
	if (child == 0) {
		int64_t value;
		bool right = number("open_tables") == 1 && !gauges_value(1, &value) && gauges_add(1, 2) && gauges_value(1, &value) && value == 2;
		_exit(right ? 0 : 1);
	}
	int status = 1;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	int64_t value;
	CHECK(gauges_value(1, &value) && value == 40);
}

// As a reader of the file writes one.
static void put(unsigned index, uint32_t state, const char *name, uint32_t bytes, int64_t value)
{
	struct mlf_gauge *gauge = record(0, index);
	memcpy(gauge->name, name, strlen(name));
	gauge->name_bytes = bytes;
	gauge->value = value;
	gauge->first_cs = gauge->set_cs = 10;
	gauge->state = state;
}

static void test_what_readers_made_goes_over(void)
{
	open_private(1U << 20);
	CHECK(!record(1, 0) && record(0, 0)->state == MLF_GAUGE_EMPTY);
	gauges_write(1);
	CHECK(is_named(own(1), "open_tables") && own(1)->value == 40); // the last value
	put(0, MLF_GAUGE_NAMED, "from_outside", 12, 1234);
	put(1, MLF_GAUGE_CLAIMED, "half", 4, 99);
	put(2, MLF_GAUGE_NAMED, "too_long", UINT32_MAX, 99);
	put(3, MLF_GAUGE_NAMED, "g=8", 3, 99);
	put(4, MLF_GAUGE_NAMED, "open_tables", 11, 99); // of the program's own
	put(5, MLF_GAUGE_NAMED, "never_set", 9, 99);
	record(0, 5)->first_cs = 0;
	uint32_t before = gauges_given();
	gauges_adopt();
	int64_t value;
	CHECK_EQUAL(gauges_given(), before + 2);
	CHECK(gauges_value(number("from_outside"), &value) && value == 1234);
	CHECK(!gauges_value(number("never_set"), &value));
	CHECK(gauges_value(1, &value) && value == 40);
	open_private(1U << 20);
	gauges_write(number("from_outside"));
	CHECK(is_named(own(number("from_outside")), "from_outside") && own(number("from_outside"))->value == 1234);
}

static void test_no_room(void)
{
	open_private(1U << 20);
	while (recording_take(16, 16))
		;
	uint64_t before = stats_counters[MLF_COUNTER_gauge_full];
	gauges_write(1);
	CHECK_EQUAL(stats_counters[MLF_COUNTER_gauge_full], before + 1);
	int64_t value;
	CHECK(gauges_value(1, &value) && value == 40);
}

int main(void)
{
	test_names();
	test_values_without_a_recording();
	open_private(4U << 20);
	test_in_the_recording();
	test_history();
	test_large_values();
	test_threads();
	test_two_at_once();
	test_a_child_has_names_and_no_values();
	test_what_readers_made_goes_over();
	test_the_numbers_end();
	test_no_room();
	return harness_end();
}
