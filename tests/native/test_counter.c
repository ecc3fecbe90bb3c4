// test_counter.c -- a serialised stream is sampled as the sampler samples a thread's
#include "fixture.h"

#include "counter.h"

#define LAW(min, max) ((uint64_t)(max) << 16 | (min))

// Runs `calls` calls; the number sampled. Every weight must be `weight`.
static uint64_t run(struct counter *c, const uint64_t *law, uint64_t calls, uint32_t weight)
{
	uint64_t hits = 0;
	for (uint64_t i = 0; i < calls; i++) {
		uint32_t got = counter_pass_hot(c) ? 0 : counter_take(c, law);
		CHECK(got == 0 || got == weight);
		hits += got != 0;
	}
	return hits;
}

// Every position of a fresh stream has the same probability, the first one too.
static void test_first_calls(void)
{
	enum { STREAMS = 200000, CALLS = 12 };
	static const uint64_t law = LAW(2, 8);
	uint64_t hits[CALLS] = {0};
	for (uint64_t s = 0; s < STREAMS; s++) {
		struct counter c = {.random = (s + 1) * 0x9E3779B97F4A7C15ULL};
		for (unsigned i = 0; i < CALLS; i++)
			hits[i] += (counter_pass_hot(&c) ? 0 : counter_take(&c, &law)) != 0;
	}
	for (unsigned i = 0; i < CALLS; i++)
		CHECK(fabs(binomial_z((double)hits[i], STREAMS, 0.2)) < 5.5);
}

static void test_rates(void)
{
	struct counter c = {.random = 77};
	uint64_t law = LAW(256, 4096), calls = 40000000;
	double expected = (double)calls * 2 / (256 + 4096), gap_sd = (4096 - 256) / sqrt(12) / 2176;
	double seen = (double)run(&c, &law, calls, 1024 * (256 + 4096) / 2);
	CHECK(fabs(seen - expected) < 5.5 * gap_sd * sqrt(expected) + 2);

	struct counter full = {.random = 78}, off = {.random = 79};
	law = LAW(1, 1);
	CHECK_EQUAL(run(&full, &law, 100000, 1024), 100000);
	uint64_t none = SAMPLER_OFF;
	CHECK_EQUAL(run(&off, &none, 100000, 0), 0);
}

// A change is noticed within 64 calls, and only where a multiple of 64 calls has gone by.
static void test_change(void)
{
	for (unsigned before = 0; before < 200; before++) {
		struct counter c = {.random = before + 1};
		uint64_t law = SAMPLER_OFF;
		run(&c, &law, before, 0);
		law = LAW(1, 1);
		uint64_t hits = run(&c, &law, 200, 1024);
		CHECK_EQUAL(hits, before ? 200 - ((before / 64 + 1) * 64 - before) : 200); // the looks are after calls 64, 128, …
	}
}

// The numbers of the first calls that are sampled.
static void first_hits(struct counter *c, const uint64_t *law, uint32_t *hits, unsigned n)
{
	for (uint32_t call = 1, found = 0; found < n; call++)
		if (!counter_pass_hot(c) && counter_take(c, law))
			hits[found++] = call;
}

// Begun anew, a stream forgets what it drew, and whoever was in the middle of it in a process it was forked from.
static void test_restart(void)
{
	enum { HITS = 4 };
	uint32_t first[HITS], same[HITS], other[HITS];
	uint64_t law = LAW(256, 4096), off = SAMPLER_OFF, full = LAW(1, 1);
	struct counter c = {0};
	counter_restart(&c, 5);
	first_hits(&c, &law, first, HITS);
	c.taking = 1;
	counter_restart(&c, 5);
	first_hits(&c, &law, same, HITS);
	counter_restart(&c, 6);
	first_hits(&c, &law, other, HITS);
	CHECK(memcmp(first, same, sizeof(first)) == 0);
	CHECK(memcmp(first, other, sizeof(first)) != 0);
	run(&c, &off, 1000, 0);
	counter_restart(&c, 7);
	CHECK_EQUAL(run(&c, &full, 100, 1024), 100);
}

int main(void)
{
	test_first_calls();
	test_rates();
	test_change();
	test_restart();
	return harness_end();
}
