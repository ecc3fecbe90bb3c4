// test_sampler.c -- probabilities are exactly what the weights say, and every rule keeps its own count
//
// Seeds are fixed. Each statistical check fails for one seed in 1e4 or fewer if the sampler is right;
// tests/test_mutants.py shows that it fails when the sampler is wrong.
#include "fixture.h"

#define LAW(min, max) ((uint64_t)(max) << 16 | (min))
#define EPOCH(n) ((uint64_t)(n) << 32)
#define MIB (1ULL << 20)

static uint64_t interval, sample_bytes;

// What hook_malloc.c's malloc does.
static uint32_t call(size_t size)
{
	if (sampler_pass_hot(size) || sampler_look_hot(size, interval))
		return 0;
	return sampler_take(size, &interval, &sample_bytes);
}

// What its aligned functions do.
static uint32_t call_without_look(size_t size)
{
	return sampler_pass_hot(size) ? 0 : sampler_take(size, &interval, &sample_bytes);
}

static void begin(uint64_t seed, uint64_t law, uint64_t bytes)
{
	interval = law;
	sample_bytes = bytes;
	sampler_seed(seed);
	sampler_restart();
}

// ---- fixed point ---------------------------------------------------------------------------------

static void test_exponential_function(void)
{
	double worst = 0;
	for (uint64_t x = 0; x < 25ULL << 32; x += 1234567)
		worst = fmax(worst, fabs(sampler_exp_neg_q32(x) / 4294967296.0 - exp(-(double)x / 4294967296.0)));
	CHECK(worst < 4e-9);
	CHECK_EQUAL(sampler_exp_neg_q32(UINT64_MAX), 0);
	printf("exp(-x): worst error %.1e\n", worst);
}

static void test_exponential_draw(void)
{
	uint64_t state = 7, mean = 1ULL << 40;
	double worst = 0;
	for (int i = 0; i < 1000000; i++) {
		// Every magnitude of the uniform draw, both sides of the table's steps too.
		uint64_t u = next_random(&state) >> i % 64;
		if (i % 3 == 0)
			u = (u & 31) << 59 | (i % 2 ? ~0ULL >> 6 : 0);
		double expected = -log((double)(u | 1) / 0x1p64);
		worst = fmax(worst, fabs((double)sampler_exponential(mean, u) / (double)mean - expected));
	}
	CHECK(worst < 2e-8);
	CHECK_EQUAL(sampler_exponential(4096, UINT64_MAX), 0);
	// A mean that would pass 64 bits means never, not soon.
	CHECK(sampler_exponential(UINT64_MAX, 1) == UINT64_MAX);
	CHECK(sampler_exponential(UINT64_MAX / 2, 1ULL << 60) >= UINT64_MAX / 2);
	printf("exponential draw: worst error %.1e of the mean\n", worst);
}

static double probability(uint64_t law, uint64_t bytes, double size)
{
	double sum = (double)((law & 0xFFFF) + (law >> 16 & 0xFFFF));
	if (size >= SAMPLER_SIZE_ALWAYS)
		return 1;
	return 1 - (1 - 2 / sum) * (bytes ? exp(-size / (double)bytes) : 1);
}

static void test_weight(void)
{
	const uint64_t laws[] = {LAW(16, 256), LAW(1, 1), LAW(1, 2), LAW(5, 5), LAW(1, 10000), LAW(9999, 10000), LAW(256, 4096)};
	const uint64_t bytes[] = {0, 4096, 4 * MIB, 1ULL << 40, UINT64_MAX};
	for (unsigned l = 0; l < ARRAY_LEN(laws); l++)
		for (unsigned b = 0; b < ARRAY_LEN(bytes); b++)
			for (double size = 0; size < 64e6; size = size * 1.7 + 1) {
				double expected = 1024 / probability(laws[l], bytes[b], floor(size));
				double weight = sampler_weight(laws[l] | EPOCH(9), bytes[b], (size_t)size);
				CHECK(fabs(weight - expected) <= 0.51 + expected * 3e-5);
			}
	CHECK_EQUAL(sampler_weight(SAMPLER_OFF | EPOCH(3), 4 * MIB, SIZE_MAX), 0);
}

// ---- the count rule --------------------------------------------------------------------------------

// P(k) = P(G >= k)/E[G].
static double equilibrium(uint64_t min, uint64_t max, uint64_t k)
{
	double at_least = k <= min ? 1 : (double)(max - k + 1) / (double)(max - min + 1);
	return at_least / ((double)(min + max) / 2);
}

static void test_equilibrium_law(void)
{
	static const uint32_t laws[][2] = {{16, 256}, {1, 1}, {5, 5}, {1, 10000}, {3, 4}, {256, 4096}};
	static unsigned seen[10001];
	uint64_t state = 11;
	for (unsigned l = 0; l < ARRAY_LEN(laws); l++) {
		uint32_t min = laws[l][0], max = laws[l][1], draws = 1000000;
		memset(seen, 0, sizeof(seen));
		for (unsigned i = 0; i < draws; i++) {
			uint32_t k = sampler_equilibrium_gap(min, max, next_random(&state));
			CHECK(k >= 1 && k <= max);
			seen[k <= max ? k : 0]++;
		}
		double chi = 0, expected = 0, found = 0, freedom = -1;
		for (uint32_t k = 1; k <= max; k++) { // bins of at least 20 expected draws
			expected += draws * equilibrium(min, max, k);
			found += seen[k];
			if (expected >= 20) {
				chi += (found - expected) * (found - expected) / expected;
				expected = found = 0;
				freedom++;
			}
		}
		CHECK(freedom == 0 ? chi < 1e-9 : fabs(chi_squared_z(chi, freedom)) < 4.5);
	}
	// Every one of the equally likely integers behind a draw, for laws where they can be listed.
	for (unsigned l = 0; l < ARRAY_LEN(laws); l++) {
		uint64_t min = laws[l][0], max = laws[l][1], range = max - min + 1, total = (min + max) * range;
		if (total > 100000)
			continue;
		memset(seen, 0, sizeof(seen));
		for (uint64_t draw = 0; draw < total; draw++) {
			uint64_t lowest = (uint64_t)((((unsigned __int128)draw << 64) + total - 1) / total);
			seen[sampler_equilibrium_gap((uint32_t)min, (uint32_t)max, lowest)]++;
		}
		for (uint64_t k = 1; k <= max; k++)
			CHECK_EQUAL(seen[k], k <= min ? 2 * range : 2 * (max - k + 1));
	}
}

#define POSITIONS 600

// `runs` threads that each make POSITIONS allocations after `prepare`: every position has probability p.
static void check_positions(const char *what, unsigned runs, double p, void (*prepare)(unsigned run))
{
	static unsigned hits[POSITIONS];
	double total = 0, squares = 0, worst = 0;
	memset(hits, 0, sizeof(hits));
	for (unsigned run = 0; run < runs; run++) {
		prepare(run);
		unsigned found = 0;
		for (unsigned i = 0; i < POSITIONS; i++)
			if (call(64)) {
				hits[i]++;
				found++;
			}
		total += found;
		squares += (double)found * found;
	}
	for (unsigned i = 0; i < POSITIONS; i++)
		worst = fmax(worst, fabs(binomial_z(hits[i], runs, p)));
	double mean = total / runs, error = sqrt((squares / runs - mean * mean) / runs);
	CHECK(worst < 5);                                     // 600 positions: 1 in 3,000
	CHECK(fabs(mean - POSITIONS * p) < 4 * error);        // 1 in 16,000
	printf("%s: worst position %.1f sd, all together %+.1f sd\n", what, worst, (mean - POSITIONS * p) / error);
}

static void as_new_thread(unsigned run)
{
	if (run == 0)
		begin(1, LAW(16, 256), 0);
	sampler_restart();
}

static void after_change(unsigned run)
{
	if (run == 0)
		begin(2, LAW(16, 256), 0);
	// The old law at every phase: of its gap, and of the 64 calls.
	static const uint64_t old[] = {LAW(1, 1), LAW(5, 5), LAW(16, 256), LAW(1, 10000), SAMPLER_OFF};
	sampler_restart();
	interval = old[run % ARRAY_LEN(old)] | EPOCH(run);
	for (unsigned i = 0; i < run % 200; i++)
		call(64);
	interval = LAW(16, 256) | EPOCH(run + 1);
	for (int i = 0; sampler_self.law != interval && i < 64; i++)
		call(64);
	CHECK(sampler_self.law == interval);
}

static void test_every_position(void)
{
	check_positions("positions of a new thread", 500000, 2.0 / 272, as_new_thread);
	check_positions("positions after a change", 300000, 2.0 / 272, after_change);
}

static unsigned thread_hits;

static void *short_thread(void *unused)
{
	unsigned found = 0;
	for (int i = 0; i < 100; i++)
		found += call(64) != 0;
	add_relaxed(&thread_hits, found);
	return unused;
}

static void test_short_threads(void)
{
	begin(3, LAW(16, 256), 0);
	for (int i = 0; i < 8000 / 16; i++)
		in_threads(16, short_thread);
	// Fewer than one sample a thread, so the binomial law bounds the spread.
	CHECK(fabs(binomial_z(thread_hits, 800000, 2.0 / 272)) < 4);
}

static void test_gaps(void)
{
	static unsigned seen[257];
	unsigned gap = 0, draws = 0;
	begin(4, LAW(16, 256), 0);
	while (!call(1))
		;
	while (draws < 500000) {
		gap++;
		if (!call(1))
			continue;
		CHECK(gap >= 16 && gap <= 256);
		seen[gap <= 256 ? gap : 0]++;
		draws++;
		gap = 0;
	}
	double chi = 0, expected = draws / 241.0;
	for (int k = 16; k <= 256; k++)
		chi += (seen[k] - expected) * (seen[k] - expected) / expected;
	CHECK(fabs(chi_squared_z(chi, 240)) < 4);
}

// ---- bytes and size ----------------------------------------------------------------------------------

static void test_byte_rule(void)
{
	static const struct {
		uint64_t size;
		unsigned calls;
	} cases[] = {{1 << 10, 20000000}, {16 << 10, 5000000}, {256 << 10, 1000000}, {MIB, 500000},
		     {4 * MIB, 200000},	  {12 * MIB, 200000}};
	for (unsigned c = 0; c < ARRAY_LEN(cases); c++) {
		unsigned hits = 0;
		begin(5 + c, LAW(9999, 10000), 4 * MIB);
		for (unsigned i = 0; i < cases[c].calls; i++)
			hits += call(cases[c].size) != 0;
		double z = binomial_z(hits, cases[c].calls, probability(LAW(9999, 10000), 4 * MIB, (double)cases[c].size));
		CHECK(fabs(z) < 4.2);
		printf("%8lu bytes: %u of %u, %+.1f sd\n", cases[c].size, hits, cases[c].calls, z);
	}
}

static void test_modes(void)
{
	static const size_t sizes[] = {0, 1, 64, MIB, SAMPLER_SIZE_ALWAYS - 1, SAMPLER_SIZE_ALWAYS, 1UL << 40, SIZE_MAX};
	unsigned off = 0, full = 0, wrong = 0;
	begin(20, SAMPLER_OFF, 4 * MIB);
	for (unsigned i = 0; i < 1000000; i++)
		off += call(sizes[i % 8]) != 0;
	CHECK_EQUAL(off, 0);
	begin(21, SAMPLER_FULL, 4 * MIB);
	for (unsigned i = 0; i < 1000000; i++)
		full += call(sizes[i % 8]) == SAMPLER_WEIGHT_ONE;
	CHECK_EQUAL(full, 1000000);
	for (unsigned bytes = 0; bytes < 2; bytes++) { // with and without the byte rule
		begin(22, LAW(16, 256), bytes * 4 * MIB);
		for (unsigned i = 0; i < 100000; i++) {
			size_t size = SAMPLER_SIZE_ALWAYS + (i % 5 ? i : SIZE_MAX / 2);
			wrong += call(size) != SAMPLER_WEIGHT_ONE;
			call(i % 7 ? 100 : MIB);
		}
	}
	CHECK_EQUAL(wrong, 0);
}

// ---- the countdowns, held against a plain model ------------------------------------------------------

static uint64_t gap_of(const struct sampler *s)
{
	return s->gap_left == SAMPLER_NO_GAP ? UINT64_MAX : (uint64_t)s->gap_left - s->calls_loaded + (uint64_t)s->calls_left;
}

static uint64_t bytes_of(const struct sampler *s)
{
	return s->bytes_rest == UINT64_MAX ? UINT64_MAX : s->bytes_left + s->bytes_rest;
}

static size_t some_size(uint64_t *state)
{
	uint64_t kind = random_below(state, 100);
	return kind < 90 ? random_below(state, 2000) : kind < 98 ? random_below(state, 4 * MIB) : random_below(state, 40 * MIB);
}

// Each countdown falls by one call or by the size, fires alone, and is drawn anew only when it fired or
// when the knobs changed, which is noticed at multiples of 64 calls and at no other.
static void test_bookkeeping(void)
{
	static const uint64_t laws[] = {LAW(16, 256), LAW(1, 1), LAW(63, 65), SAMPLER_OFF, LAW(64, 64), LAW(1, 10000), LAW(128, 128)};
	uint64_t state = 31, calls = 0, asked_at = 0, changes = 0;
	begin(30, laws[0], 4 * MIB);
	call(0);
	for (calls = 1; calls < 3000000; calls++) {
		if (random_below(&state, 500) == 0) {
			interval = laws[random_below(&state, ARRAY_LEN(laws))] | EPOCH(calls);
			sample_bytes = random_below(&state, 3) ? 4 * MIB : random_below(&state, 2) ? 4096 : 0;
			asked_at = calls;
		}
		struct sampler before = sampler_self, after, again;
		size_t size = some_size(&state);
		uint32_t weight = call(size);
		after = sampler_self;
		sampler_self = before;
		uint32_t weight_again = call_without_look(size);
		again = sampler_self;
		CHECK(weight == weight_again && memcmp(&after, &again, sizeof(after)) == 0);

		bool gap_fires = gap_of(&before) == 1, bytes_fire = bytes_of(&before) != UINT64_MAX && size > bytes_of(&before);
		bool hit = gap_fires || bytes_fire || (size >= SAMPLER_SIZE_ALWAYS && (uint32_t)before.law != SAMPLER_OFF);
		CHECK_EQUAL(weight, hit ? sampler_weight(before.law, before.sample_bytes, size) : 0);
		if (after.law != before.law) {
			CHECK((calls + 1) % SAMPLER_EPOCH_CALLS == 0); // this was call number calls + 1
			CHECK(calls - asked_at < SAMPLER_EPOCH_CALLS);
			CHECK(after.law == interval && after.sample_bytes == sample_bytes);
			changes++;
			continue;
		}
		CHECK(calls - asked_at < SAMPLER_EPOCH_CALLS || after.law == interval);
		if (!gap_fires)
			CHECK(gap_of(&after) == gap_of(&before) - (gap_of(&before) != UINT64_MAX));
		if (!bytes_fire)
			CHECK(bytes_of(&after) == bytes_of(&before) - (bytes_of(&before) != UINT64_MAX ? size : 0));
	}
	CHECK(changes > 2000);
}

// A call that is passed over leaves the byte countdown as it was.
static void test_pass_over(void)
{
	begin(40, LAW(16, 256), 4 * MIB);
	for (int i = 0; i < 10000; i++) {
		struct sampler before = sampler_self;
		size_t size = i % 3 ? 100 : 20 * MIB;
		if (!sampler_pass_hot(size))
			sampler_skip(size);
		CHECK(bytes_of(&sampler_self) <= bytes_of(&before));
	}
	unsigned hits = 0;
	for (int i = 0; i < 1000; i++)
		hits += call(20 * MIB) == SAMPLER_WEIGHT_ONE;
	CHECK_EQUAL(hits, 1000);
}

int main(void)
{
	static void (*const tests[])(void) = {
	    test_bookkeeping, test_pass_over, test_modes, test_weight, test_exponential_function, test_exponential_draw,
	    test_equilibrium_law, test_gaps, test_short_threads, test_every_position, test_byte_rule,
	};
	for (unsigned i = 0; i < ARRAY_LEN(tests) && !checks_failed; i++)
		tests[i]();
	return harness_end();
}
