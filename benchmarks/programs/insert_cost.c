// insert_cost.c -- what liveset_insert() takes, with few and with many other samples live
//
// nativebuild: flags -DLIVESET_COST
//
// Each line: live samples, nanoseconds of an insertion, nanoseconds of a removal; medians of rounds of 256 in a row.
#include "../../tests/native/fixture.h"

#include "liveset.h"

#include <stdio.h>
#include <time.h>

#define BATCH 256
#define ROUNDS 400

static double now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void *address(uint64_t n) { return (void *)(uintptr_t)(0x550000000000 + n * 48); }

static struct live_sample sample = {.size_bytes = 64, .row = 1, .weight_x1024 = 1024, .born_cs = 1, .thread = 1};

static void measure(uint64_t live)
{
	static double insertions[ROUNDS], removals[ROUNDS];
	struct live_sample out;
	uint64_t state = 1, wrong = 0;
	open_private(16U << 20);
	for (uint64_t i = 0; i < live; i++)
		wrong += !liveset_insert(address(i * 7), MLF_LAYER_MALLOC, &sample);
	for (unsigned round = 0; round < ROUNDS; round++) {
		static void *taken[BATCH];
		uint64_t base = live * 7 + 7 + random_below(&state, 1U << 20);
		for (unsigned i = 0; i < BATCH; i++)
			taken[i] = address(base + i * 5);
		double began = now_ns();
		for (unsigned i = 0; i < BATCH; i++)
			wrong += !liveset_insert(taken[i], MLF_LAYER_MALLOC, &sample);
		double between = now_ns();
		for (unsigned i = 0; i < BATCH; i++)
			wrong += !liveset_remove(taken[i], MLF_LAYER_MALLOC, &out);
		double ended = now_ns();
		insertions[round] = (between - began) / BATCH;
		removals[round] = (ended - between) / BATCH;
	}
	for (uint64_t i = 0; i < live; i++)
		wrong += !liveset_remove(address(i * 7), MLF_LAYER_MALLOC, &out);
	CHECK_EQUAL(wrong, 0);
	qsort(insertions, ROUNDS, sizeof *insertions, by_value);
	qsort(removals, ROUNDS, sizeof *removals, by_value);
	printf("%lu %.2f %.2f\n", (unsigned long)live, insertions[ROUNDS / 2], removals[ROUNDS / 2]);
}

int main(void)
{
	measure(100);
	measure(1000);
	measure(10000);
	measure(100000);
	return harness_end();
}
