// sampler_driver.c -- the core's sampler on simulated programs: which allocations does it pick?
//
//     sampler_driver SCENARIO RUNS FIRST_SEED
//
// One line for each run and place of allocation:
//     PLACE TRUE_COUNT TRUE_BYTES WEIGHT_X1024:SIZE:SAMPLES …
// where PLACE is a letter, and equal samples stand together. test_sampler_bias.py estimates from them.
#include "sampler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAW(min, max) ((uint64_t)(max) << 16 | (min))
#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static uint64_t interval, sample_bytes, chance;

static uint64_t random_below(uint64_t limit) // independent of the sampler's own numbers
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return (uint64_t)((unsigned __int128)(chance * 0x2545F4914F6CDD1D) * limit >> 64);
}

// ---- what was sampled ------------------------------------------------------------------------------

#define PLACES 8
#define KINDS_MAX 200000

static struct place {
	uint64_t count, bytes;
	unsigned kinds;
	struct kind {
		uint32_t weight;
		uint64_t size, samples;
	} *kind;
} places[PLACES];

static void note(struct place *place, uint32_t weight, size_t size)
{
	// Newest first: few kinds, or none alike.
	for (unsigned i = place->kinds, looks = 0; i-- > 0 && looks < 16; looks++)
		if (place->kind[i].size == size && place->kind[i].weight == weight) {
			place->kind[i].samples++;
			return;
		}
	if (place->kinds == KINDS_MAX)
		abort();
	place->kind[place->kinds++] = (struct kind){weight, size, 1};
}

static void allocate(unsigned number, size_t size)
{
	struct place *place = &places[number];
	place->count++;
	place->bytes += size;
	if (sampler_pass_hot(size) || sampler_look_hot(size, interval))
		return;
	uint32_t weight = sampler_take(size, &interval, &sample_bytes);
	if (weight)
		note(place, weight, size);
}

static void print_and_clear(void)
{
	for (unsigned p = 0; p < PLACES; p++) {
		struct place *place = &places[p];
		if (place->count)
			printf("%c %lu %lu", 'a' + p, place->count, place->bytes);
		for (unsigned i = 0; i < place->kinds; i++)
			printf(" %u:%lu:%lu", place->kind[i].weight, place->kind[i].size, place->kind[i].samples);
		if (place->count)
			putchar('\n');
		place->count = place->bytes = place->kinds = 0;
	}
}

// ---- the programs ----------------------------------------------------------------------------------

static void set_knobs(uint64_t law, uint64_t bytes)
{
	sample_bytes = bytes;
	interval = law | ((interval >> 32) + 1) << 32;
}

static void small(void)
{
	for (int i = 0; i < 100000; i++)
		allocate(0, 64);
}

static void large(void)
{
	for (int i = 0; i < 5000; i++)
		allocate(0, 3 * MIB);
}

static size_t mixed_size(void)
{
	uint64_t kind = random_below(100);
	return kind < 90 ? 64 : kind < 99 ? 8192 : MIB;
}

static void mixed(void)
{
	for (int i = 0; i < 200000; i++)
		allocate(0, mixed_size());
}

// Place a leaks at position 2 of a request's 8 allocations; place b is freed again.
static void request(void)
{
	for (int i = 1; i <= 8; i++)
		allocate(i != 2, i == 2 ? 64 : 100);
}

static void requests(void)
{
	for (int i = 0; i < 50000; i++)
		request();
}

static void requests_in_threads(void)
{
	for (int i = 0; i < 50000; i++) {
		sampler_restart();
		request();
	}
}

static void threads(void)
{
	for (int i = 0; i < 1000; i++) {
		sampler_restart();
		for (int k = 0; k < 100; k++)
			allocate(k % 2, k % 2 ? 64 : 1000);
	}
}

static void knobs(void)
{
	static const uint64_t laws[] = {LAW(16, 256), LAW(4, 64), LAW(1, 1), LAW(100, 1000), LAW(1, 256)};
	static const uint64_t bytes[] = {4 * MIB, 256 * KIB, 0};
	for (int i = 0; i < 100000; i++) {
		if (random_below(700) == 0)
			set_knobs(laws[random_below(5)], bytes[random_below(3)]);
		allocate(i % 3 == 0, i % 3 ? 64 : 4096);
	}
}

// Five places of 10 % to 1 %, with sizes of their own, in random order among the allocations of place f.
static void random_order(void)
{
	static const unsigned until[] = {10, 20, 28, 36, 37, 100};
	static const size_t size[] = {48, 256, 2048, 64 * KIB, MIB, 120};
	for (int i = 0; i < 60000; i++) {
		uint64_t draw = random_below(100);
		unsigned place = 0;
		while (draw >= until[place])
			place++;
		allocate(place, size[place]);
	}
}

// 100 MB of 64-byte leaks, and three buffers of 3 MiB somewhere among them.
static void ranking(void)
{
	unsigned leaks = 100000000 / 64, at[3];
	for (int i = 0; i < 3; i++)
		at[i] = (unsigned)random_below(leaks);
	for (unsigned i = 0; i < leaks; i++) {
		allocate(0, 64);
		for (int k = 0; k < 3; k++)
			if (at[k] == i)
				allocate(1, 3 * MIB);
	}
}

static void off(void)
{
	set_knobs(SAMPLER_OFF, 4 * MIB);
	for (int i = 0; i < 100000; i++)
		allocate(0, i % 100 ? 64 : (size_t)i * MIB);
}

static const struct {
	const char *name;
	void (*run)(void);
} scenarios[] = {
    {"small", small},	  {"large", large}, {"mixed", mixed},		    {"requests", requests}, {"requests_in_threads", requests_in_threads},
    {"threads", threads}, {"knobs", knobs}, {"random_order", random_order}, {"ranking", ranking},   {"off", off},
};

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	void (*run)(void) = NULL;
	for (unsigned i = 0; i < ARRAY_LEN(scenarios); i++)
		if (strcmp(argv[1], scenarios[i].name) == 0)
			run = scenarios[i].run;
	if (!run)
		return 2;
	for (unsigned p = 0; p < PLACES; p++)
		places[p].kind = malloc(KINDS_MAX * sizeof(*places[p].kind));
	for (uint64_t i = 0, runs = strtoull(argv[2], NULL, 10), seed = strtoull(argv[3], NULL, 10); i < runs; i++) {
		chance = (seed + i) * MLF_CHECK_1 | 1;
		interval = LAW(16, 256);
		sample_bytes = 4 * MIB;
		sampler_seed(seed + i);
		sampler_restart();
		run();
		print_and_clear();
	}
	return 0;
}
