// test_turn.c -- one thread at a time, also in a child that was forked meanwhile
#include "traced.h"

#include "turn.h"

static struct turn turn;
static uint64_t taken; // not atomic: that is what the turn is for

static void *count_up(void *number)
{
	uint64_t state = (uintptr_t)number + 1;
	for (int i = 0; i < 20000; i++) {
		while (!turn_try(&turn))
			sched_yield();
		uint64_t before = taken;
		if (random_below(&state, 200) == 0)
			sched_yield(); // for the others to come in between
		taken = before + 1;
		turn_leave(&turn);
	}
	return NULL;
}

static void *take_and_count(void *number)
{
	(void)number;
	for (int i = 0; i < 50; i++) {
		turn_take(&turn);
		taken++;
		turn_leave(&turn);
	}
	return NULL;
}

static void test_one_at_a_time(void)
{
	in_threads(8, count_up);
	CHECK_EQUAL(taken, 8 * 20000);
	in_threads(8, take_and_count);
	CHECK_EQUAL(taken, 8 * 20050);
}

// ---- forked while it is taken --------------------------------------------------------------------------

static void grandchild_body(void) { CHECK(turn_try(&turn)); }

static void child_body(void)
{
	CHECK(turn_try(&turn)); // of a thread that is not here
	CHECK(!turn_try(&turn));
	in_child(grandchild_body);
	turn_leave(&turn);
	turn_take(&turn);
	turn_leave(&turn);
}

static void test_forked_while_taken(void)
{
	CHECK(turn_try(&turn));
	CHECK(!turn_try(&turn));
	in_child(child_body);
	CHECK(!turn_try(&turn));
	turn_leave(&turn);
	CHECK(turn_try(&turn));
	turn_leave(&turn);
}

int main(void)
{
	test_one_at_a_time();
	test_forked_while_taken();
	return harness_end();
}
