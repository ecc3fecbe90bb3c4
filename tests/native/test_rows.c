// test_rows.c -- counters, the overflow row, and history against a plain record of every change
#include "fixture.h"

#include "catalog.h"
#include "index.h"
#include "modules.h"
#include "boot.h"
#include "stats.h"

#include <dlfcn.h>

static struct rows_stack stack_of(const uint64_t *frame, unsigned frames, uint64_t hash)
{
	return (struct rows_stack){.frame = frame, .frames = frames, .hash = hash};
}

static const uint64_t none[3] = {0};

static struct mlf_row *numbered_row(uint64_t number)
{
	struct rows_stack stack = stack_of(none, 3, number * MLF_CHECK_1);
	return rows_of(&stack, MLF_DOMAIN_MALLOC, 5);
}

static void test_one_row_each(void)
{
	uint64_t frame[] = {11, 22, 33}; // module 0
	struct rows_stack stack = stack_of(frame, 3, 1234), other = stack_of(frame, 2, 1235);
	struct mlf_row *row = rows_of(&stack, MLF_DOMAIN_MALLOC, 7);
	CHECK(row == rows_of(&stack, MLF_DOMAIN_MALLOC, 9));
	CHECK(row != rows_of(&stack, MLF_DOMAIN_MMAP, 9) && row != rows_of(&other, MLF_DOMAIN_MALLOC, 9));
	CHECK_EQUAL(row->native_stack, rows_of(&stack, MLF_DOMAIN_MMAP, 9)->native_stack); // one stack for both
	CHECK(row->record.kind == MLF_RECORD_ROW && row->record.bytes == sizeof(*row) && row->domain == MLF_DOMAIN_MALLOC);
	CHECK(row->first_cs == 7 && row->last_cs == 7 && row->flags == 0 && row->history == 0);
	CHECK_EQUAL((uintptr_t)row % 64, 0);
	const struct mlf_stack *stored = recording_at(row->native_stack);
	CHECK(stored->record.kind == MLF_RECORD_STACK && stored->record.bytes == sizeof(*stored) + 3 * 8 && stored->key == 1234);
	CHECK(stored->frames == 3 && stored->flags == 0 && memcmp(stored->frame, frame, sizeof(frame)) == 0);
	struct rows_stack cut = stack_of(frame, 3, 99);
	cut.truncated = true;
	stored = recording_at(rows_of(&cut, MLF_DOMAIN_MALLOC, 9)->native_stack);
	CHECK_EQUAL(stored->flags, MLF_STACK_TRUNCATED);
	struct rows_stack empty = stack_of(frame, 0, 0);
	CHECK(rows_of(&empty, MLF_DOMAIN_MALLOC, 9) == rows_of(&empty, MLF_DOMAIN_MALLOC, 9));
}

static void test_python_half_that_finds_room_later(void)
{
	struct rows_stack stack = stack_of(none, 3, 777);
	stack.python_hash = 778;
	stack.python_lost = true;
	struct mlf_row *row = rows_of(&stack, MLF_DOMAIN_MALLOC, 5);
	CHECK(row->flags == MLF_ROW_PYTHON_LOST && row->python_stack == 0);
	stack.python_lost = false;
	stack.python = 12345;
	CHECK(rows_of(&stack, MLF_DOMAIN_MALLOC, 6) == row && row->python_stack == 12345);
	stack.python = 0; // no room again: what is known stays
	CHECK(rows_of(&stack, MLF_DOMAIN_MALLOC, 7) == row && row->python_stack == 12345);
}

static void test_counters(void)
{
	struct mlf_row *row = numbered_row(1);
	rows_add(row, 100, 1024, 10);
	rows_add(row, 1000, 136 * 1024, 20);
	rows_add(row, 3, 1500, 25); // 4.39 bytes
	CHECK_EQUAL(row->alloc_samples, 3);
	CHECK_EQUAL(row->alloc_count_x1024, 1024 + 136 * 1024 + 1500);
	CHECK_EQUAL(row->alloc_bytes, 100 + 136000 + 4);
	CHECK(row->peak_bytes == 136104 && row->peak_cs == 25 && row->last_cs == 25);
	rows_remove(row, 1000, 136 * 1024, 30);
	CHECK(row->freed_samples == 1 && row->freed_count_x1024 == 136 * 1024 && row->freed_bytes == 136000);
	rows_add(row, 50, 1024, 40);
	CHECK(row->peak_bytes == 136104 && row->peak_cs == 25 && row->last_cs == 40);
	rows_shrink(row, 70, 41);
	CHECK(row->freed_samples == 1 && row->freed_bytes == 136070);
	rows_add(row, SAMPLER_SIZE_ALWAYS - 1, 10000 * 1024, 42); // the largest product
	CHECK_EQUAL(row->alloc_bytes, 136154 + (uint64_t)(SAMPLER_SIZE_ALWAYS - 1) * 10000);
}

static void *add_and_remove(void *number)
{
	struct mlf_row *row = numbered_row(2);
	for (unsigned i = 0; i < 100000; i++) {
		rows_add(row, 10 + (uintptr_t)number, 2048, 1 + i / 10);
		rows_remove(row, 10 + (uintptr_t)number, 2048, 1 + i / 10);
	}
	rows_add(row, 1000, 1024, 10001);
	return NULL;
}

static void test_counters_of_many_threads(void)
{
	in_threads(4, add_and_remove);
	const struct mlf_row *row = numbered_row(2);
	CHECK(row->alloc_samples == 400004 && row->freed_samples == 400000);
	CHECK_EQUAL(row->alloc_bytes - row->freed_bytes, 4000);
	CHECK(row->peak_bytes >= 4000 && row->peak_bytes <= 4000 + 4 * 2 * 13);
}

// A row that is as old as it could get in years; the machine will not run 2^32 samples for us.
static void test_held_by_all_rows(void)
{
	struct mlf_row *one = numbered_row(21), *two = numbered_row(22);
	struct rows_held before = rows_held_now();
	rows_reset_peak();
	CHECK_EQUAL(rows_held_now().peak_bytes, before.bytes);
	rows_add(one, 100, 1024, 10);
	rows_add(two, 1000, 136 * 1024, 10);
	CHECK_EQUAL(rows_held_now().bytes - before.bytes, 136100);
	rows_remove(two, 1000, 136 * 1024, 11);
	rows_shrink(one, 30, 11);
	CHECK_EQUAL(rows_held_now().bytes - before.bytes, 70);
	CHECK_EQUAL(rows_held_now().peak_bytes - before.bytes, 136100);
	rows_reset_peak();
	CHECK_EQUAL(rows_held_now().peak_bytes - before.bytes, 70);
	rows_add(one, 5, 1024, 12);
	CHECK_EQUAL(rows_held_now().peak_bytes - before.bytes, 75);
}

static void test_held_never_below_nothing(void)
{
	struct mlf_row *row = numbered_row(23);
	struct rows_held before = rows_held_now();
	rows_remove(row, before.bytes + 50, 1024, 10); // taken off before it is added
	CHECK_EQUAL(rows_held_now().bytes, 0);
	rows_reset_peak();
	rows_add(row, 20, 1024, 10);
	CHECK(rows_held_now().bytes == 0 && rows_held_now().peak_bytes == 0);
	rows_add(row, before.bytes + 30, 1024, 10);
	CHECK(rows_held_now().bytes == before.bytes && rows_held_now().peak_bytes == before.bytes);
}

static void test_past_32_bits(void)
{
	struct mlf_row *row = numbered_row(32);
	uint64_t many = UINT32_MAX;
	row->alloc_samples = row->freed_samples = row->alloc_bytes = row->freed_bytes = row->alloc_count_x1024 = row->freed_count_x1024 = many;
	rows_add(row, 1000, 2048, 10);
	rows_add(row, 1000, 2048, 11);
	CHECK(row->alloc_samples == many + 2 && row->alloc_bytes == many + 4000 && row->alloc_count_x1024 == many + 4096);
	CHECK(row->peak_bytes == 4000);
	rows_remove(row, 1000, 2048, 12);
	CHECK(row->freed_samples == many + 1 && row->freed_bytes == many + 2000 && row->freed_count_x1024 == many + 2048);
	stats_counters[MLF_COUNTER_samples] = many;
	count(samples);
	CHECK_EQUAL(stats_value(MLF_COUNTER_samples), many + 1);
}

// ---- history -----------------------------------------------------------------------------------------

#define TICKS 200000U
static uint64_t value_at_end[TICKS + 1]; // of each tick
static bool changed_in[TICKS + 1];

static bool changed_within(uint32_t first, uint32_t last)
{
	for (uint32_t tick = first; tick <= last; tick++)
		if (changed_in[tick])
			return true;
	return false;
}

// Every period that can still stand in the levels says what the plain record says, or is missing
// because nothing changed in it.
static void compare_history(const struct mlf_row *row, uint32_t first_tick, uint32_t now)
{
	const struct mlf_history *history = recording_at(row->history);
	CHECK(history->record.kind == MLF_RECORD_HISTORY && history->record.bytes == sizeof(*history));
	for (unsigned level = 0; level < MLF_HISTORY_LEVELS; level++) {
		unsigned shift = level * MLF_HISTORY_LEVEL_SHIFT;
		for (unsigned back = 0; back < MLF_HISTORY_SLOTS && now >> shift >= back; back++) {
			uint32_t period = (now >> shift) - back;
			uint64_t word = history->slot[level * MLF_HISTORY_SLOTS + period % MLF_HISTORY_SLOTS];
			uint32_t first = period << shift, last = ((period + 1) << shift) - 1;
			bool there = word >> MLF_HISTORY_VALUE_BITS == 1 + period % MLF_HISTORY_TAG_MASK;
			if (level && last >= now)
				continue; // the period has not ended
			if (last > now)
				last = now;
			if (there)
				CHECK_EQUAL(word & ((1ULL << MLF_HISTORY_VALUE_BITS) - 1), value_at_end[last]);
			else
				CHECK(last < first_tick || !changed_within(first, last));
		}
	}
}

static void test_history(void)
{
	uint64_t state = 77;
	struct mlf_row *row = numbered_row(3);
	uint64_t value = 0;
	uint32_t tick = 1, first_tick = 0;
	while (tick < TICKS - 3000) {
		// Bursts, steady times, and pauses of minutes to hours.
		uint64_t kind = random_below(&state, 100);
		uint32_t step = kind < 60 ? 0 : kind < 90 ? 1 : kind < 99 ? (uint32_t)random_below(&state, 40) : (uint32_t)random_below(&state, 3000);
		for (; step; step--)
			value_at_end[++tick] = value;
		uint32_t now_cs = (tick - 1) * MLF_HISTORY_UNIT_CS + (uint32_t)random_below(&state, MLF_HISTORY_UNIT_CS);
		uint64_t size = 1 + random_below(&state, 100000);
		if (random_below(&state, 2) && value >= size) {
			rows_remove(row, size, 1024, now_cs);
			value -= size;
		} else {
			rows_add(row, size, 1024, now_cs);
			value += size;
		}
		value_at_end[tick] = value;
		changed_in[tick] = true;
		if (!first_tick)
			first_tick = tick;
		CHECK_EQUAL(row->history_tick, tick);
		CHECK((row->history != 0) == (tick != first_tick)); // none for what lives within one unit
		if (row->history && random_below(&state, 8) == 0)
			compare_history(row, first_tick, tick);
	}
	// The value saturates, the tag stays right.
	rows_add(row, 1ULL << 45, 1024, tick * MLF_HISTORY_UNIT_CS);
	const struct mlf_history *history = recording_at(row->history);
	uint32_t period = tick + 1;
	CHECK(history->slot[period % MLF_HISTORY_SLOTS] ==
	      ((1ULL + period % MLF_HISTORY_TAG_MASK) << MLF_HISTORY_VALUE_BITS | ((1ULL << MLF_HISTORY_VALUE_BITS) - 1)));
}

// ---- plumbing and no room ------------------------------------------------------------------------------

static uint64_t frame_of(uintptr_t pc)
{
	unsigned id = modules_find(pc);
	return (uint64_t)id << MLF_FRAME_MODULE_SHIFT | (pc - modules_base(id));
}

static void test_plumbing(void)
{
	boot();
	uint64_t core = frame_of((uintptr_t)&rows_of + 8), libc = frame_of((uintptr_t)dlsym(RTLD_DEFAULT, "qsort") + 8);
	CHECK(core >> MLF_FRAME_MODULE_SHIFT && libc >> MLF_FRAME_MODULE_SHIFT);
	uint64_t frame[] = {core, core, libc, core, libc};
	struct rows_stack stack = stack_of(frame, 5, 555);
	const struct mlf_row *row = rows_of(&stack, MLF_DOMAIN_MALLOC, 1);
	const struct mlf_stack *stored = recording_at(row->native_stack);
	CHECK_EQUAL(row->domain, MLF_DOMAIN_OPERATOR_NEW);
	// Hooks of ours, which may stand in between, are no part of a stack wherever they are.
	CHECK(stored->frames == 2 && stored->frame[0] == libc && stored->frame[1] == libc);
	CHECK(row == rows_of(&stack, MLF_DOMAIN_MALLOC, 1));
	struct rows_stack plain = stack_of(frame + 2, 3, 556);
	CHECK_EQUAL(rows_of(&plain, MLF_DOMAIN_MALLOC, 1)->domain, MLF_DOMAIN_MALLOC);
	CHECK_EQUAL(rows_of(&stack, MLF_DOMAIN_MMAP, 1)->domain, MLF_DOMAIN_MMAP);
}

static void test_no_room(void)
{
	open_private(1U << 20);
	struct mlf_row *overflow = recording_at(recording.header->overflow_row);
	CHECK(overflow->flags == MLF_ROW_OVERFLOW && overflow->native_stack == 0);
	uint64_t n = 0, before = stats_value(MLF_COUNTER_stack_full) + stats_value(MLF_COUNTER_row_full);
	while (numbered_row(1000 + n) != overflow)
		n++;
	CHECK(n > 1000);
	CHECK_EQUAL(stats_value(MLF_COUNTER_stack_full) + stats_value(MLF_COUNTER_row_full), before + 1);
	uint64_t refused = 1;
	for (uint64_t i = 1; i < 500; i++) // what is left fits a stack, perhaps, but hardly a row
		refused += numbered_row(1000 + n + i) == overflow;
	CHECK(refused >= 450);
	CHECK_EQUAL(stats_value(MLF_COUNTER_stack_full) + stats_value(MLF_COUNTER_row_full), before + refused);
	CHECK(numbered_row(1000) != overflow); // what is there stays there
	rows_add(overflow, 10, 1024, 1);
	CHECK_EQUAL(overflow->alloc_bytes, 10);
	uint64_t without = stats_value(MLF_COUNTER_history_full);
	rows_add(numbered_row(1000), 10, 1024, 1);
	rows_add(numbered_row(1000), 10, 1024, 10 * MLF_HISTORY_UNIT_CS);
	CHECK_EQUAL(stats_value(MLF_COUNTER_history_full), without + 1);
	CHECK_EQUAL(numbered_row(1000)->alloc_bytes, 20);
}

int main(void)
{
	open_private(8U << 20);
	test_one_row_each();
	test_python_half_that_finds_room_later();
	test_counters();
	test_held_by_all_rows();
	test_held_never_below_nothing();
	test_past_32_bits();
	test_counters_of_many_threads();
	test_history();
	test_plumbing();
	test_no_room();
	return harness_end();
}
