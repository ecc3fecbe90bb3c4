// test_liveset.c -- a live sample is found, keeps its bit, and is removed once
//
//     test_liveset [--long | --short]
#include "liveset_check.h"

#define LAYER MLF_LAYER_MALLOC

static bool insert(const void *address, uint64_t number)
{
	struct live_sample sample = sample_for(address, number);
	return liveset_insert(address, LAYER, &sample);
}

// Removes the sample and tells whether it was the one inserted with this number.
static bool remove_equal(const void *address, uint64_t number)
{
	struct live_sample out, expected = sample_for(address, number);
	return liveset_remove(address, LAYER, &out) && sample_equal(&out, &expected);
}

static void check_empty(void)
{
	unsigned held, wrong;
	CHECK_EQUAL(count_live(&held, &wrong), 0);
	CHECK_EQUAL(held, 0);
}

// ---- one thread ------------------------------------------------------------------------------------

static void test_insert_and_remove(void)
{
	struct live_sample out, a = sample_for((void *)0x1230, 1), b = sample_for((void *)0x1230, 2);
	CHECK(!bitmap_test_hot((void *)0x1230) && !liveset_remove((void *)0x1230, LAYER, &out));
	CHECK(liveset_insert((void *)0x1230, MLF_LAYER_MALLOC, &a));
	CHECK(liveset_insert((void *)0x1230, MLF_LAYER_PYMEM, &b));
	CHECK(bitmap_test_hot((void *)0x1230));
	CHECK(!liveset_remove((void *)0x1230, MLF_LAYER_MMAP, &out)); // not of this layer
	CHECK(!liveset_remove((void *)0x1240, MLF_LAYER_MALLOC, &out)); // a neighbour with the same bit
	CHECK(!liveset_find((void *)0x1230, MLF_LAYER_MMAP, &out) && !liveset_find((void *)0x1240, MLF_LAYER_MALLOC, &out));
	CHECK(liveset_find((void *)0x1230, MLF_LAYER_MALLOC, &out) && sample_equal(&out, &a)); // and it stays
	CHECK(liveset_find((void *)0x1230, MLF_LAYER_PYMEM, &out) && sample_equal(&out, &b));
	CHECK(liveset_remove((void *)0x1230, MLF_LAYER_MALLOC, &out) && sample_equal(&out, &a));
	CHECK(!liveset_find((void *)0x1230, MLF_LAYER_MALLOC, &out));
	CHECK(bitmap_test_hot((void *)0x1230)); // the other layer still needs it
	CHECK(!liveset_remove((void *)0x1230, MLF_LAYER_MALLOC, &out));
	CHECK(liveset_remove((void *)0x1230, MLF_LAYER_PYMEM, &out) && sample_equal(&out, &b));
	CHECK(!bitmap_test_hot((void *)0x1230));
	check_empty();
}

static void test_aliases_share_a_bit(void)
{
	// Segment 0 holds 16 samples of one bit; more need further segments.
	unsigned segments = live_segments();
	for (unsigned i = 0; i < 40; i++)
		CHECK(insert(aliasing(0x7F0040, i), i));
	CHECK_EQUAL(live_segments(), segments + 2);
	for (unsigned i = 0; i < 40; i++) {
		CHECK(bitmap_test_hot(aliasing(0x7F0040, i)));
		CHECK(remove_equal(aliasing(0x7F0040, (i * 7) % 40), (i * 7) % 40));
		CHECK(bitmap_test_hot(aliasing(0x7F0040, i)) == (i != 39));
	}
	check_empty();
}

static void test_address_range(void)
{
	uint64_t before = stats_value(MLF_COUNTER_address_range);
	CHECK(insert((void *)0xFFFFFFFFFFF0, 1) && remove_equal((void *)0xFFFFFFFFFFF0, 1));
	CHECK(!insert((void *)0x1000000000000, 1));
	CHECK(!insert((void *)0xFFFFFFFFFFFFFFF0, 1));
	CHECK_EQUAL(stats_value(MLF_COUNTER_address_range), before + 2);
	check_empty();
}

static void *heap_address(uint64_t n) { return (void *)(uintptr_t)(0x550000000000 + n * 48); }

static void test_growth_and_full_table(void)
{
	uint64_t n = 0, full = stats_value(MLF_COUNTER_live_full);
	unsigned held, wrong;
	open_private(2U << 20); // 2 MiB of room
	while (n < 100000 && insert(heap_address(n), n))
		n++;
	CHECK(live_segments() >= 3 && n > 20000 && n < 52000); // 40 bytes each
	CHECK_EQUAL(stats_value(MLF_COUNTER_live_full), full + 1);
	CHECK_EQUAL(count_live(&held, &wrong), n);
	CHECK_EQUAL(held + wrong, 0);
	for (uint64_t i = 0; i < n; i++)
		CHECK(remove_equal(heap_address(i), i));
	check_empty();
	for (uint64_t i = 0; i < n; i++) // no bit is left over where nobody raced
		CHECK(!bitmap_test_hot(heap_address(i)));
}

// Probe lengths stay as they are: with a constant number of live samples no segment is ever added.
static void test_steady_state(uint64_t operations)
{
	enum { LIVE = 4000 };
	static uint64_t live[LIVE];
	uint64_t state = 5, wrong = 0;
	open_private(8U << 20);
	for (uint64_t i = 0; i < LIVE; i++) {
		live[i] = i * 1000003;
		CHECK(insert(heap_address(live[i]), live[i]));
	}
	unsigned segments = live_segments();
	for (uint64_t i = 0; i < operations; i++) {
		uint64_t which = random_below(&state, LIVE);
		wrong += !remove_equal(heap_address(live[which]), live[which]);
		live[which] = which * 1000003 + i % 1000003; // distinct: no two share a range
		wrong += !insert(heap_address(live[which]), live[which]);
	}
	CHECK_EQUAL(wrong, 0);
	// Two buckets of eight hold a load of a half but for rare pairs of full ones.
	CHECK(live_segments() <= segments + 1);
	for (uint64_t i = 0; i < LIVE; i++)
		CHECK(remove_equal(heap_address(live[i]), live[i]));
	check_empty();
}

// ---- many threads ------------------------------------------------------------------------------------

#define THREADS 6
#define OWN 24       // addresses each thread owns at a time
#define LOWS 40      // bits that all threads share
#define SHARED 64    // addresses that anybody may remove

static uint64_t operations_each, losses, wrongs;
static uint64_t shared_number[SHARED]; // 0: not in the set; else what its sample was made from
static uint64_t shared_inserted, shared_removed, refused;

static uint32_t low_of(uint64_t n) { return 0x00AB0000 + (uint32_t)(n % LOWS) * 32; }

static void *alias_storm(void *number)
{
	uint64_t me = (uintptr_t)number, state = 1000 + me, wrong = 0, lost = 0, dropped = 0;
	uint64_t owned[OWN] = {0}; // 0: free, else the number of its sample
	for (uint64_t i = 1; i <= operations_each; i++) {
		unsigned k = (unsigned)random_below(&state, OWN);
		void *address = aliasing(low_of(k * 5 + me), (uint32_t)(me * OWN + k) % 4096);
		// The promise that free() relies on: while it is ours and live its bit is set.
		if (owned[k] && !bitmap_test_hot(address))
			lost++;
		if (owned[k]) {
			wrong += !remove_equal(address, owned[k]);
			owned[k] = 0;
		} else if (insert(address, i)) {
			owned[k] = i;
			lost += !bitmap_test_hot(address);
		} else {
			dropped++;
		}
		if (i % 8 == 0) { // an address that everybody inserts and removes, one inserter at a time
			uint64_t s = random_below(&state, SHARED), free = 0;
			struct live_sample out;
			void *common = aliasing(low_of(s), (uint32_t)(5000 + s));
			if (cas_acq_rel(&shared_number[s], &free, UINT64_MAX)) {
				uint64_t its = i * THREADS + me;
				if (insert(common, its)) {
					add_relaxed(&shared_inserted, 1);
					store_release(&shared_number[s], its);
				} else {
					store_release(&shared_number[s], 0);
				}
			} else if (liveset_remove(common, LAYER, &out)) {
				add_relaxed(&shared_removed, 1);
				uint64_t its;
				while ((its = load_acquire(&shared_number[s])) == UINT64_MAX)
					;
				struct live_sample expected = sample_for(common, its);
				wrong += !sample_equal(&out, &expected);
				store_release(&shared_number[s], 0);
			}
		}
	}
	for (unsigned k = 0; k < OWN; k++) {
		void *address = aliasing(low_of(k * 5 + me), (uint32_t)(me * OWN + k) % 4096);
		if (owned[k]) {
			lost += !bitmap_test_hot(address);
			wrong += !remove_equal(address, owned[k]);
		}
	}
	add_relaxed(&losses, lost);
	add_relaxed(&wrongs, wrong);
	add_relaxed(&refused, dropped);
	return NULL;
}

static void test_alias_storm(uint64_t operations)
{
	open_private(4U << 20);
	uint64_t full = stats_value(MLF_COUNTER_live_full), race = stats_value(MLF_COUNTER_live_race);
	operations_each = operations / THREADS;
	in_threads(THREADS, alias_storm);
	CHECK_EQUAL(losses, 0);
	CHECK_EQUAL(wrongs, 0);
	CHECK(refused <= stats_value(MLF_COUNTER_live_full) - full + stats_value(MLF_COUNTER_live_race) - race);
	CHECK(refused < operations / 50 + 1000); // a preempted remover makes its neighbours drop
	uint64_t left = 0;
	for (unsigned s = 0; s < SHARED; s++)
		if (shared_number[s]) {
			left++;
			CHECK(bitmap_test_hot(aliasing(low_of(s), 5000 + s)));
			CHECK(remove_equal(aliasing(low_of(s), 5000 + s), shared_number[s]));
		}
	CHECK_EQUAL(shared_inserted, shared_removed + left); // exactly one remover won each time
	CHECK(shared_removed > operations / 100);
	check_empty();
	CHECK(live_segments() <= 3);
	printf("storm: %lu refused, %lu common removals, %u segments\n", refused, shared_removed, live_segments());
}

// ---- one address, two removers -------------------------------------------------------------------------

static uint64_t wins;
static uint32_t met;

static void *remove_at_once(void *number)
{
	struct live_sample out;
	uint64_t mine = 0;
	for (uint32_t round = 1; round <= 30000; round++) {
		void *address = heap_address(round % 50 * 977);
		if (!number && !insert(address, round))
			abort();
		meet(&met, 2, 2 * round - 1);
		mine += liveset_remove(address, LAYER, &out);
		meet(&met, 2, 2 * round);
	}
	add_relaxed(&wins, mine);
	return NULL;
}

static void test_one_remover_wins(void)
{
	in_threads(2, remove_at_once);
	CHECK_EQUAL(wins, 30000);
	check_empty();
}

// ---- another row -----------------------------------------------------------------------------------

static struct liveset_place insert_there(const void *address, uint64_t number)
{
	struct liveset_place place = {0};
	struct live_sample sample = sample_for(address, number);
	CHECK(liveset_try_insert(address, LAYER, &sample, &place) == LIVESET_INSERTED);
	return place;
}

static void test_move(void)
{
	void *address = aliasing(0x660040, 1), *other = aliasing(0x660040, 2);
	struct liveset_place place = insert_there(address, 1), beside = insert_there(other, 2);
	struct live_sample out, expected = sample_for(address, 1);
	CHECK(liveset_look(&place, &out) && sample_equal(&out, &expected));
	CHECK_EQUAL(liveset_move(&place, 4711), LIVESET_MOVED);
	expected.row = 4711;
	CHECK(liveset_find(address, LAYER, &out) && sample_equal(&out, &expected));
	CHECK_EQUAL(liveset_move(&place, 4712), LIVESET_GONE); // a place is good for one move
	CHECK(liveset_look(&place, &out) && sample_equal(&out, &expected)); // after another look for one more
	CHECK_EQUAL(liveset_move(&place, 4713), LIVESET_MOVED);
	expected.row = 4713;
	CHECK(bitmap_test_hot(address));
	unsigned held, wrong;
	CHECK_EQUAL(count_live(&held, &wrong), 2);
	CHECK_EQUAL(held + wrong, 0);
	CHECK(liveset_remove(address, LAYER, &out) && sample_equal(&out, &expected));
	CHECK(remove_equal(other, 2));
	// What was there is gone; the same address again is another sample.
	CHECK(!liveset_look(&beside, &out) && liveset_move(&beside, 4713) == LIVESET_GONE);
	insert_there(other, 3);
	CHECK(!liveset_look(&beside, &out));
	CHECK_EQUAL(liveset_move(&beside, 4713), LIVESET_GONE);
	CHECK(remove_equal(other, 3) && !bitmap_test_hot(other));
	check_empty();
}

static void test_merge(void)
{
	void *address = aliasing(0x660040, 3), *other = aliasing(0x660040, 4);
	struct liveset_place place = insert_there(address, 1), before = place, goes = insert_there(other, 2);
	struct live_sample out, expected = sample_for(address, 1), lost = sample_for(other, 2);
	enum liveset_moved kept;
	unsigned held, wrong;
	CHECK(liveset_merge(&place, &goes, 4711, &out, &kept) && kept == LIVESET_MOVED && sample_equal(&out, &lost));
	expected.weight_x1024 = 4711;
	CHECK(liveset_find(address, LAYER, &out) && sample_equal(&out, &expected) && !liveset_find(other, LAYER, &out));
	CHECK(count_live(&held, &wrong) == 1 && held + wrong == 0 && bitmap_test_hot(address));
	// A place is good for one change; what is not taken out changes nothing else.
	goes = insert_there(other, 2);
	CHECK(!liveset_merge(&before, &goes, 4712, &out, &kept) && kept == LIVESET_GONE);
	CHECK(liveset_look(&place, &out) && !liveset_merge(&place, &before, 4712, &out, &kept) && kept == LIVESET_MOVED);
	CHECK(liveset_find(address, LAYER, &out) && sample_equal(&out, &expected) && remove_equal(other, 2));
	CHECK(liveset_remove(address, LAYER, &out) && sample_equal(&out, &expected) && !bitmap_test_hot(address));
	check_empty();
}

// The sequence of a key is never 0, which a doomed one has.
static void test_sequences(void)
{
	for (unsigned i = 0; i < 5000; i++) {
		struct liveset_place place = insert_there((void *)0x7700, i);
		struct live_sample out;
		CHECK((place.key >> MLF_LIVE_KEY_SEQUENCE_SHIFT & 0x7FF) != 0);
		CHECK(liveset_remove((void *)0x7700, LAYER, &out));
	}
}

// Threads insert and hand over; others move what was inserted while their owners, or third ones, remove it.
#define MOVED 256
#define MOVED_ROW 0x80000000U // what a moved row is told by
static struct moved {
	uint32_t turn; // 0: nothing there; 1: being changed; else a sample is, with this number
	struct liveset_place place;
} moved[MOVED];
static uint64_t moves, doomed, removals, insertions;

static void *move_address(unsigned k) { return aliasing(low_of(k), 7000 + k); }

static void insert_one(unsigned k)
{
	uint32_t none = 0;
	struct liveset_place place;
	if (!cas_acq_rel(&moved[k].turn, &none, 1))
		return;
	struct live_sample sample = sample_for(move_address(k), k);
	sample.row &= ~MOVED_ROW;
	bool inserted = liveset_try_insert(move_address(k), LAYER, &sample, &place) == LIVESET_INSERTED;
	store_relaxed(&moved[k].place.key, place.key);
	store_relaxed(&moved[k].place.slot, place.slot);
	store_relaxed(&moved[k].place.insertion, place.insertion);
	store_release(&moved[k].turn, inserted ? 2 : 0);
	add_relaxed(&insertions, inserted);
}

static void move_one(unsigned k)
{
	struct liveset_place place = {load_relaxed(&moved[k].place.key), load_relaxed(&moved[k].place.slot),
				      load_relaxed(&moved[k].place.insertion)};
	struct live_sample out;
	if (!place.key || !liveset_look(&place, &out))
		return;
	enum liveset_moved outcome = liveset_move(&place, out.row | MOVED_ROW);
	add_relaxed(&moves, outcome == LIVESET_MOVED);
	add_relaxed(&doomed, outcome == LIVESET_REMOVED);
}

// Its owner frees it: the sample must not be there afterwards, whoever took it.
static void remove_one(unsigned k)
{
	void *address = move_address(k);
	uint32_t there = 2;
	struct live_sample out, expected = sample_for(address, k);
	if (!cas_acq_rel(&moved[k].turn, &there, 1))
		return;
	add_relaxed(&losses, !bitmap_test_hot(address));
	if (liveset_remove(address, LAYER, &out)) {
		out.row &= ~MOVED_ROW;
		expected.row &= ~MOVED_ROW;
		add_relaxed(&wrongs, !sample_equal(&out, &expected));
		add_relaxed(&removals, 1);
	}
	add_relaxed(&wrongs, liveset_find(address, LAYER, &out)); // nothing of it may be seen any more
	store_release(&moved[k].turn, 0);
}

static void *move_storm(void *number)
{
	void (*const work[])(unsigned) = {insert_one, move_one, remove_one};
	uint64_t state = 31 + (uintptr_t)number;
	for (uint64_t i = 0; i < operations_each; i++) {
		unsigned k = (unsigned)random_below(&state, MOVED); // few at a time are wanted by all
		work[random_below(&state, 3)](i / 64 % 2 ? k % 4 : k);
	}
	return NULL;
}

static void test_move_storm(uint64_t operations)
{
	open_private(4U << 20);
	operations_each = operations / THREADS;
	losses = wrongs = 0;
	in_threads(THREADS, move_storm);
	uint64_t left = 0;
	struct live_sample out;
	for (unsigned k = 0; k < MOVED; k++)
		if (moved[k].turn == 2) {
			left++;
			CHECK(bitmap_test_hot(move_address(k)) && liveset_remove(move_address(k), LAYER, &out));
		}
	CHECK_EQUAL(losses, 0);
	CHECK_EQUAL(wrongs, 0);
	CHECK_EQUAL(insertions, removals + doomed + left); // each is taken out once, by its remover or the mover
	CHECK(moves > operations / 100);
	check_empty();
	printf("moves: %lu, %lu of them finished a removal, of %lu insertions\n", moves, doomed, insertions);
}

int main(int argc, char **argv)
{
	uint64_t operations = long_run(argc, argv) ? 200000000 : short_run(argc, argv) ? 300000 : 10000000;
	open_private(8U << 20);
	test_insert_and_remove();
	test_aliases_share_a_bit();
	test_address_range();
	test_one_remover_wins();
	test_move();
	test_merge();
	test_sequences();
	if (!checks_failed)
		test_alias_storm(operations);
	if (!checks_failed)
		test_move_storm(operations);
	if (!checks_failed)
		test_growth_and_full_table();
	if (!checks_failed)
		test_steady_state(operations);
	return harness_end();
}
