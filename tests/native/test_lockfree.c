// test_lockfree.c -- a thread stopped at any atomic step of the tables stops no other
//
//     test_lockfree [--long | --short]
//
// A victim is left standing before and after each locked instruction of one table operation (stepping.h). Seven others
// must then finish their operations, on the same buckets and windows too, and with the very key or sample that the victim
// is at. Then the victim goes on, and the tables must add up. Nothing in the core knows of this.
#include "liveset_check.h"
#include "stepping.h"

#include "index.h"

#define LAYER MLF_LAYER_MALLOC
#define VICTIM_LOW 0x00C0DE00U // the bit that the victim's address and an eighth of the others' share
#define KEY 5ULL

// ---- the victim's operations ---------------------------------------------------------------------------

static struct rows_stack stack_of(uint64_t *frame, uint64_t number)
{
	frame[0] = 0; // module 0: not known
	return (struct rows_stack){.frame = frame, .frames = 1, .hash = number * MLF_CHECK_1};
}

static void *victim_address(void) { return aliasing(VICTIM_LOW, 60000); }

static struct liveset_place victim_place;
static enum liveset_moved victim_moved;
#define MOVED_ROW 4711U

static bool live_insert(const void *address, uint64_t number)
{
	struct live_sample sample = sample_for(address, number);
	return liveset_insert(address, LAYER, &sample);
}

static struct mlf_row *victim_row;
static uint64_t frames[4];
static uint32_t raced[OTHERS + 1]; // what each thread got of what all wanted, the victim last

static void fill_buckets(void) // of the shared bit, in the one segment there is
{
	for (unsigned i = 0; i < 2 * MLF_LIVE_BUCKET; i++)
		live_insert(aliasing(VICTIM_LOW, 61000 + i), i);
}

static void fill_window(void) // of KEY, in the one segment there is
{
	const struct recording_table *table = recording_segment(MLF_KIND_ROW_INDEX, 0);
	for (unsigned i = 0; i < MLF_INDEX_WINDOW; i++) {
		uint64_t key = KEY + (uint64_t)(i + 1) * table->capacity, *record = recording_take(16, 16);
		record[1] = key;
		index_insert(MLF_KIND_ROW_INDEX, key, recording_ref(record));
	}
}

static void insert_victim(void)
{
	struct live_sample sample = sample_for(victim_address(), 7);
	liveset_try_insert(victim_address(), LAYER, &sample, &victim_place);
}
static void move_victim(void) { victim_moved = liveset_move(&victim_place, MOVED_ROW); }
static void race_to_remove(unsigned me)
{
	struct live_sample removed, expected = sample_for(victim_address(), 7);
	raced[me] = liveset_remove(victim_address(), LAYER, &removed);
	if (raced[me] && removed.row == MOVED_ROW && stepped->run == move_victim)
		expected.row = MOVED_ROW;
	if (raced[me] && !sample_equal(&removed, &expected))
		add_relaxed(&shared->failures, 1);
}
static void remove_victim(void) { race_to_remove(OTHERS); }
static void new_row(void)
{
	struct rows_stack stack = stack_of(frames, 1);
	victim_row = rows_of(&stack, MLF_DOMAIN_MALLOC, 1);
}
static void race_for_key(unsigned me)
{
	uint64_t *record = recording_take(16, 16);
	record[1] = KEY;
	raced[me] = index_insert(MLF_KIND_ROW_INDEX, KEY, recording_ref(record));
}
static void insert_key(void) { race_for_key(OTHERS); }
static void first_sample(void) { rows_add(victim_row, 100, 2048, 1); }
static void add_and_remove(void)
{
	rows_add(victim_row, 100, 2048, 3 * MLF_HISTORY_UNIT_CS); // a later history unit: makes the history
	rows_remove(victim_row, 100, 2048, 3 * MLF_HISTORY_UNIT_CS);
}

static const struct operation operations[] = {
    {"live insert", {0}, insert_victim, NULL, 2},
    {"live remove", {insert_victim}, remove_victim, NULL, 2},
    {"live remove, wanted by all", {insert_victim}, remove_victim, race_to_remove, 2},
    {"live move", {insert_victim}, move_victim, NULL, 2},
    {"live move, removal wanted by all", {insert_victim}, move_victim, race_to_remove, 2},
    {"live insert, new segment", {fill_buckets}, insert_victim, NULL, 5},
    {"stack and row insert", {0}, new_row, NULL, 4},
    {"row insert, the same key by all", {0}, insert_key, race_for_key, 2},
    {"row insert, new segment", {fill_window}, insert_key, NULL, 5},
    {"row insert, new segment, the same key by all", {fill_window}, insert_key, race_for_key, 5},
    {"counters and history", {new_row, first_sample}, add_and_remove, NULL, 8},
};

// ---- the process under test ----------------------------------------------------------------------------

// A sampled allocation and its free, as the tracer does them.
static uint64_t other_turn(unsigned me, uint64_t turn, uint64_t *random, uint64_t *failures)
{
	// Stacks: the victim's new one, 2,000 common ones, now and then one that nobody has seen.
	uint64_t frame[1];
	uint64_t number = turn % 16 == 0 ? 1 : turn % 64 == 1 ? 1000000 * (me + 1) + turn : 2 + random_below(random, 2000);
	struct rows_stack stack = stack_of(frame, number);
	struct mlf_row *row = rows_of(&stack, MLF_DOMAIN_MALLOC, (uint32_t)(1 + turn / 64));
	rows_add(row, 64, 2048, (uint32_t)(1 + turn / 64));
	void *address = turn % 8 == 0 ? aliasing(VICTIM_LOW, me)
				      : (void *)(uintptr_t)(0x550000000000 + me * 0x1000000ULL + random_below(random, 4096) * 32);
	bool inserted = live_insert(address, turn);
	if (inserted) {
		struct live_sample out, expected = sample_for(address, turn);
		*failures += !bitmap_test_hot(address);
		*failures += !liveset_remove(address, LAYER, &out) || !sample_equal(&out, &expected);
	}
	rows_remove(row, 64, 2048, (uint32_t)(1 + turn / 64));
	return !inserted;
}

// How many words of an index lead to a record of this key?
static unsigned words_of(enum mlf_kind kind, uint64_t key)
{
	unsigned found = 0;
	const struct recording_table *table;
	for (unsigned order = 0; (table = recording_segment(kind, order)); order++)
		for (uint32_t i = 0; i < table->capacity; i++) {
			uint64_t word = ((const uint64_t *)(const void *)table->base)[i];
			found += word && ((const uint64_t *)recording_at((uint32_t)word))[1] == key;
		}
	return found;
}

// Whoever stopped where: one insertion of a key won, and everybody got its record.
static void check_key(bool builder_may_stand)
{
	uint32_t winner = index_find(MLF_KIND_ROW_INDEX, KEY);
	CHECK(winner != 0);
	CHECK_EQUAL(words_of(MLF_KIND_ROW_INDEX, KEY), 1);
	for (unsigned i = 0; i <= OTHERS; i++)
		if (stepped->race || i == OTHERS) // while a segment's builder stands the others go without
			CHECK(raced[i] == winner || (builder_may_stand && i != OTHERS && !raced[i]));
}

static void check_new_row(void)
{
	struct rows_stack stack = stack_of(frames, 1);
	CHECK(victim_row == rows_of(&stack, MLF_DOMAIN_MALLOC, 1) && !(victim_row->flags & MLF_ROW_OVERFLOW));
	CHECK_EQUAL(words_of(MLF_KIND_ROW_INDEX, victim_row->key), 1);
	const struct mlf_stack *kept = recording_at(victim_row->native_stack);
	CHECK_EQUAL(words_of(MLF_KIND_STACK_INDEX, kept->key), 1);
	uint64_t added = OTHERS * ((shared->operations + 15) / 16);
	CHECK(victim_row->alloc_samples == added && victim_row->freed_samples == added);
}

static _Noreturn void under_test(const struct operation *operation)
{
	open_private(operations_each > 100000 ? 128U << 20 : 24U << 20); // new rows fill it
	run_threads(operation);
	if (operation->run == insert_key)
		check_key(operation->prepare[0] == fill_window);
	if (operation->run == new_row)
		check_new_row();
	unsigned removals = 0;
	for (unsigned i = 0; operation->run == remove_victim && i <= OTHERS; i++)
		removals += raced[i];
	CHECK_EQUAL(removals, operation->run == remove_victim);
	bool wanted = operation->run == move_victim && operation->race;
	for (unsigned i = 0; wanted && i < OTHERS; i++)
		removals += raced[i];
	if (operation->run == move_victim) // taken out once: by one of them, or by the mover for them
		CHECK_EQUAL(removals + (victim_moved == LIVESET_REMOVED), wanted);
	// Everything but what the victim inserted is gone, whole, and no bit is missing.
	unsigned held, wrong, live = count_live(&held, &wrong), prepared = operation->prepare[0] == fill_buckets ? 16 : 0;
	CHECK_EQUAL(held + wrong, 0);
	CHECK_EQUAL(live, prepared + (operation->run == insert_victim || (operation->run == move_victim && !operation->race)));
	CHECK(stats_value(MLF_COUNTER_live_full) + stats_value(MLF_COUNTER_live_race) >= shared->dropped);
	_exit(checks_failed ? 1 : 0);
}

int main(int argc, char **argv)
{
	if (long_run(argc, argv) || short_run(argc, argv))
		operations_each = long_run(argc, argv) ? 1000000 : 5000;
	step_through(operations, ARRAY_LEN(operations), under_test);
	return harness_end();
}
