// test_outcome.c -- an entry that fails takes its samples to another set of labels, and nobody else's
//
//     test_outcome [--long | --short]
#include "liveset_check.h"

#include "labels.h"
#include "outcome.h"

#define LAYER MLF_LAYER_MALLOC
#define FAILED "outcome=KeyError"
#define NOTES 32768U

static struct mlf_row *row_under(const char *labels, uint64_t hash)
{
	uint64_t frame[] = {11};
	struct rows_stack stack = {.frame = frame, .frames = 1, .hash = hash, .label = labels_number(labels, strlen(labels))};
	return rows_of(&stack, MLF_DOMAIN_MALLOC, 1);
}

static void *block(uint64_t n) { return (void *)(uintptr_t)(0x550000000000 + n * 48); }

// As samples.c does it.
static bool sample(const void *address, struct mlf_row *row, uint32_t entry)
{
	struct liveset_place place;
	struct live_sample about = {.size_bytes = 100, .row = recording_ref(row), .weight_x1024 = 2048, .born_cs = 1};
	if (liveset_try_insert(address, LAYER, &about, &place) != LIVESET_INSERTED)
		return false;
	if (entry)
		outcome_note(&place, entry);
	rows_add(row, about.size_bytes, about.weight_x1024, 1);
	return true;
}

static bool forget(const void *address)
{
	struct live_sample about;
	if (!liveset_remove(address, LAYER, &about))
		return false;
	rows_remove(recording_at(about.row), about.size_bytes, about.weight_x1024, 1);
	return true;
}

static struct mlf_row *row_of_block(const void *address)
{
	struct live_sample about = {.row = 0};
	return liveset_find(address, LAYER, &about) ? recording_at(about.row) : NULL;
}

static uint64_t missed(void) { return stats_value(MLF_COUNTER_outcome_missed); }

static void test_replaced_texts(void)
{
	struct {
		const char *before, *after;
	} known[] = {
	    {"outcome=ok", "outcome=KeyError"},
	    {"outcome=ok\nsql=1", "outcome=KeyError\nsql=1"},
	    {"a=1\noutcome=ok", "a=1\noutcome=KeyError"},
	    {"a=outcome=ok\noutcome=ok\nsql=outcome=ok", "a=outcome=ok\noutcome=KeyError\nsql=outcome=ok"},
	};
	for (unsigned i = 0; i < ARRAY_LEN(known); i++)
		CHECK_EQUAL(labels_replaced(labels_number(known[i].before, strlen(known[i].before)), "outcome=ok", FAILED),
			    labels_number(known[i].after, strlen(known[i].after)));
	const char *without[] = {"sql=1", "outcome=okay", "xoutcome=ok", "outcome=o", "a=outcome=ok", "outcome=text"};
	for (unsigned i = 0; i < ARRAY_LEN(without); i++)
		CHECK_EQUAL(labels_replaced(labels_number(without[i], strlen(without[i])), "outcome=ok", FAILED), 0);
	CHECK_EQUAL(labels_replaced(0, "outcome=ok", FAILED), 0);
	CHECK_EQUAL(labels_replaced(MLF_LABEL_OTHER, "outcome=ok", FAILED), 0);
	char text[MLF_LABEL_BYTES];
	memset(text, 'x', sizeof(text));
	memcpy(text, "outcome=ok\n", 11);
	uint32_t longest = labels_number(text, MLF_LABEL_BYTES);
	CHECK(longest != MLF_LABEL_OTHER && labels_replaced(longest, "outcome=ok", FAILED) == 0);
	CHECK_EQUAL(labels_replaced(longest, "outcome=ok", "outcome=E"), labels_replaced(longest, "outcome=ok", "outcome=E"));
}

static void test_moves_its_own(void)
{
	struct mlf_row *ok = row_under("outcome=ok\nsql=1", 5), *deeper = row_under("outcome=ok\nsql=1\nstep=2", 5), *text = row_under("outcome=text", 5);
	const uint32_t *noted = outcome_open();
	uint32_t began = *noted;
	CHECK(sample(block(1), ok, 7) && sample(block(2), ok, 8) && sample(block(3), deeper, 7) && sample(block(4), ok, 0));
	CHECK(sample(block(5), ok, 7) && forget(block(5)) && sample(block(6), text, 7));
	CHECK_EQUAL(*noted, began + 5);
	uint64_t before = missed(), held = rows_held_now().bytes, peak = rows_held_now().peak_bytes;
	outcome_settle(7, began, FAILED);
	struct mlf_row *failed = row_under(FAILED "\nsql=1", 5);
	CHECK(failed != ok && row_of_block(block(1)) == failed && row_of_block(block(3)) == row_under(FAILED "\nsql=1\nstep=2", 5));
	CHECK(row_of_block(block(2)) == ok && row_of_block(block(4)) == ok && row_of_block(block(6)) == text);
	CHECK_EQUAL(missed(), before + 1); // of the text: a label that says so is no entry's
	CHECK(rows_held_now().bytes == held && rows_held_now().peak_bytes == peak);
	CHECK(failed->native_stack == ok->native_stack && failed->domain == ok->domain);
	CHECK(failed->alloc_bytes == 200 && failed->freed_bytes == 0 && failed->moved_bytes == 0);
	CHECK(ok->alloc_bytes == 800 && ok->freed_bytes == 400 && ok->moved_bytes == 200 && ok->moved_count_x1024 == 2048);
	outcome_settle(7, began, "outcome=OSError"); // once
	CHECK(row_of_block(block(1)) == failed);
	for (unsigned i = 1; i <= 6; i++)
		CHECK(forget(block(i)) == (i != 5));
	CHECK_EQUAL(failed->freed_bytes, 200);
	CHECK_EQUAL(rows_held_now().bytes, held - 1000);
}

static void test_what_came_after_stays(void)
{
	struct mlf_row *ok = row_under("outcome=ok\nsql=1", 6);
	uint32_t began = *outcome_open();
	CHECK(sample(block(1), ok, 9) && forget(block(1)) && sample(block(1), ok, 10)); // the same place, another sample
	outcome_settle(9, began, FAILED);
	CHECK(row_of_block(block(1)) == ok);
	outcome_settle(10, *outcome_open(), FAILED); // it says to have begun later
	CHECK(row_of_block(block(1)) == ok);
	outcome_settle(0, began, FAILED);
	CHECK(forget(block(1)));
}

// A sample that others were merged with meanwhile is the same sample, and goes with what it stands for.
static void test_what_stands_for_others(void)
{
	struct mlf_row *ok = row_under("outcome=ok\nsql=1", 7);
	uint32_t began = *outcome_open();
	struct liveset_place place;
	struct live_sample about = {.size_bytes = 100, .row = recording_ref(ok), .weight_x1024 = 2048, .born_cs = 1};
	for (unsigned i = 1; i <= 20; i++) { // more often than changes are told apart
		CHECK(liveset_try_insert(block(i), LAYER, &about, &place) == LIVESET_INSERTED);
		outcome_note(&place, 21);
		rows_add(ok, 100, 2048, 1);
		for (uint32_t weight = 2048; weight < 2048 + 1024 * i; weight += 1024) {
			struct live_sample seen;
			CHECK(liveset_look(&place, &seen) && seen.weight_x1024 == weight);
			struct liveset_place other;
			enum liveset_moved kept;
			CHECK(liveset_try_insert(block(40), LAYER, &about, &other) == LIVESET_INSERTED);
			CHECK(liveset_merge(&place, &other, weight + 1024, &seen, &kept) && kept == LIVESET_MOVED);
			rows_take_over(ok, 100, weight, weight + 1024, 1);
		}
	}
	CHECK(sample(block(30), ok, 21) && forget(block(30)) && sample(block(30), ok, 22)); // the same place, another's
	uint64_t held = rows_held_now().bytes, before = missed();
	outcome_settle(21, began, FAILED);
	struct mlf_row *failed = row_under(FAILED "\nsql=1", 7);
	for (unsigned i = 1; i <= 20; i++)
		CHECK(row_of_block(block(i)) == failed);
	CHECK(row_of_block(block(30)) == ok && missed() == before && rows_held_now().bytes == held);
	CHECK_EQUAL(failed->alloc_bytes, 20 * 200 + 100 * (20 * 21 / 2));
	CHECK_EQUAL(ok->alloc_bytes - ok->freed_bytes, 200);
	for (unsigned i = 1; i <= 20; i++)
		CHECK(forget(block(i)));
	CHECK(forget(block(30)) && ok->alloc_bytes == ok->freed_bytes && failed->alloc_bytes == failed->freed_bytes);
}

static void test_more_than_is_noted(void)
{
	struct mlf_row *ok = row_under("outcome=ok\nsql=1", 6);
	uint32_t began = *outcome_open();
	uint64_t before = missed();
	CHECK(sample(block(1), ok, 11) && sample(block(2), ok, 11));
	for (unsigned i = 2; i < NOTES; i++)
		CHECK(sample(block(3), ok, 12) && forget(block(3)));
	outcome_settle(11, began, FAILED);
	CHECK(missed() == before && row_of_block(block(1)) != ok && row_of_block(block(2)) != ok);
	began = *outcome_open();
	CHECK(sample(block(4), ok, 13));
	for (unsigned i = 0; i < NOTES; i++)
		CHECK(sample(block(3), ok, i == 5 ? 13 : 12) && forget(block(3)));
	CHECK(sample(block(5), ok, 13));
	outcome_settle(13, began, FAILED);
	CHECK(missed() == before + 1 && row_of_block(block(4)) == ok && row_of_block(block(5)) != ok);
	for (unsigned i = 1; i <= 5; i++)
		CHECK(forget(block(i)) == (i != 3));
}

static void test_another_recording(void)
{
	struct mlf_row *ok = row_under("outcome=ok\nsql=1", 5);
	uint32_t began = *outcome_open();
	CHECK(sample(block(1), ok, 14));
	outcome_drop();
	open_private(8U << 20);
	ok = row_under("outcome=ok\nsql=1", 5);
	CHECK(sample(block(1), ok, 0)); // perhaps at the same place, under the same key
	outcome_settle(14, began, FAILED);
	CHECK(row_of_block(block(1)) == ok && forget(block(1)));
}

static const struct mlf_label_set *set_of(const char *labels)
{
	return (const struct mlf_label_set *)(const void *)recording_segment(MLF_KIND_LABEL_SETS, 0)->base +
	       labels_number(labels, strlen(labels)) - 1;
}

static void test_calls(void)
{
	uint32_t number = labels_number("outcome=ok\nsql=2", 16);
	labels_count_call(number);
	labels_count_call(number);
	labels_count_call(0);
	labels_count_call(MLF_LABEL_OTHER);
	CHECK(set_of("outcome=ok\nsql=2")->calls == 2 && set_of("outcome=ok\nsql=2")->text != 0);
}

// ---- entries that end while others free what they hold ----------------------------------------------------

#define THREADS 4U
#define EACH 64U // blocks of an entry
static uint64_t turns, wrongs, stays;
static struct mlf_row *rows[4];
static uint32_t entries, hands[THREADS * EACH]; // blocks for others to free: 1 + number

static void *entries_storm(void *number)
{
	uint64_t me = (uintptr_t)number, state = 7 + me, wrong = 0, stayed = 0, base = (me + 1) << 28;
	for (uint64_t turn = 0; turn < turns; turn++) {
		uint32_t entry = add_relaxed(&entries, 1) + 1, began = load_relaxed(outcome_open());
		bool fails = turn % 2, owned[EACH];
		for (unsigned i = 0; i < EACH; i++) {
			uint64_t n = base + turn * EACH + i;
			owned[i] = sample(block(n), rows[i % 4], entry);
			uint32_t none = 0;
			if (owned[i] && i % 3 == 0 && cas_acq_rel(&hands[random_below(&state, ARRAY_LEN(hands))], &none, (uint32_t)n + 1))
				owned[i] = false;
		}
		for (unsigned i = 0; i < EACH; i++) { // free some of others'
			uint32_t n = exchange_acq_rel(&hands[random_below(&state, ARRAY_LEN(hands))], 0);
			if (n)
				forget(block(n - 1)); // whoever takes it out: see the sums
			if (n && row_of_block(block(n - 1)))
				wrong++;
		}
		if (fails)
			outcome_settle(entry, began, FAILED);
		for (unsigned i = 0; i < EACH; i++) {
			struct mlf_row *row = owned[i] ? row_of_block(block(base + turn * EACH + i)) : NULL;
			wrong += owned[i] && (!row || (row != rows[i % 4] && !fails));
			stayed += owned[i] && row == rows[i % 4] && fails;
			wrong += owned[i] && !forget(block(base + turn * EACH + i));
		}
	}
	add_relaxed(&wrongs, wrong);
	add_relaxed(&stays, stayed);
	return NULL;
}

static void test_storm(void)
{
	open_private(8U << 20);
	for (unsigned i = 0; i < 4; i++)
		rows[i] = row_under(i % 2 ? "outcome=ok\nsql=1" : "outcome=ok", 50 + i);
	uint64_t before = missed();
	in_threads(THREADS, entries_storm);
	for (unsigned i = 0; i < ARRAY_LEN(hands); i++)
		if (hands[i])
			forget(block(hands[i] - 1));
	unsigned held, wrong;
	CHECK_EQUAL(wrongs, 0);
	CHECK_EQUAL(count_live(&held, &wrong), 0);
	CHECK_EQUAL(held, 0);
	CHECK_EQUAL(rows_held_now().bytes, 0); // each sample was accounted for once, whoever took it out
	for (unsigned i = 0; i < 4; i++)
		CHECK(rows[i]->alloc_samples == rows[i]->freed_samples && rows[i]->moved_bytes > 0);
	CHECK(stays <= EACH * (missed() - before)); // notes are overwritten while a thread is not running: that is counted
	CHECK(missed() - before <= turns / 10);
	printf("storm: %lu turns, %lu missed, %lu samples stayed, %lu removals left to a mover\n", turns * THREADS, missed() - before, stays, stats_value(MLF_COUNTER_live_race));
}

static void test_no_more_numbers(void)
{
	struct mlf_row *ok = row_under("outcome=ok\nlast=1", 5);
	char text[32];
	for (unsigned i = 0; i < MLF_LABEL_SETS; i++)
		labels_number(text, (size_t)snprintf(text, sizeof(text), "n=%u", i));
	uint32_t began = *outcome_open();
	uint64_t other = stats_value(MLF_COUNTER_label_other);
	CHECK(sample(block(1), ok, 15));
	outcome_settle(15, began, FAILED);
	CHECK_EQUAL(row_of_block(block(1))->label_set, MLF_LABEL_OTHER); // not under ok
	CHECK_EQUAL(stats_value(MLF_COUNTER_label_other), other + 1);
	CHECK(forget(block(1)));
}

static void test_no_room(void)
{
	open_private(1U << 20);
	struct mlf_row *ok = row_under("outcome=ok\nsql=1", 5);
	uint32_t began = *outcome_open();
	uint64_t before = missed();
	CHECK(sample(block(1), ok, 16));
	while (recording_take(16, 16))
		;
	outcome_settle(16, began, FAILED);
	CHECK(row_of_block(block(1)) == ok && missed() == before + 1);
	CHECK(forget(block(1)));
}

int main(int argc, char **argv)
{
	turns = long_run(argc, argv) ? 300000 : short_run(argc, argv) ? 1000 : 10000;
	open_private(8U << 20);
	struct liveset_place nowhere = {1, 1, 1};
	outcome_note(&nowhere, 1); // before there is room for notes
	outcome_settle(1, 0, FAILED);
	outcome_drop();
	CHECK(outcome_open() == outcome_open());
	test_replaced_texts();
	test_moves_its_own();
	test_what_came_after_stays();
	test_what_stands_for_others();
	test_more_than_is_noted();
	test_another_recording();
	test_calls();
	test_storm();
	test_no_more_numbers();
	test_no_room();
	return harness_end();
}
