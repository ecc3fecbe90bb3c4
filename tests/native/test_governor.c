// test_governor.c -- widened pairs, windows, and a tracer whose allocation rate steps
#include "traced.h"

#include "clock.h"
#include "governor.h"
#include "stats.h"

#define LAW(min, max) ((uint64_t)(max) << 16 | (min))
#define SECOND_NS 1000000000ULL
#define BUDGET_PPM 3000U // a tenth to a fifteenth of what allocate_for() costs as requested

static const char *directory;

static uint32_t min_of(uint64_t law) { return (uint16_t)law; }
static uint32_t max_of(uint64_t law) { return (uint16_t)(law >> 16); }
static uint32_t mean_x2(uint64_t law) { return min_of(law) + max_of(law); }

// ---- pairs -------------------------------------------------------------------------------------------------

static void test_widen(void)
{
	CHECK_EQUAL(governor_widen(LAW(16, 256) | 7ULL << 32, GOVERNOR_ONE), LAW(16, 256) | 7ULL << 32);
	CHECK_EQUAL(governor_widen(LAW(16, 256) | 7ULL << 32, 4 * GOVERNOR_ONE), LAW(64, 1024) | 7ULL << 32); // the request's epoch
	CHECK_EQUAL(governor_widen(LAW(16, 256), 100 * GOVERNOR_ONE), LAW(1249, 9999));
	CHECK_EQUAL(governor_widen(LAW(1, 8), 3 * GOVERNOR_ONE), LAW(3, 24));
	CHECK_EQUAL(governor_widen(LAW(100, 100), 12 * GOVERNOR_ONE), LAW(1200, 1200));
	CHECK_EQUAL(governor_widen(LAW(100, 100), UINT32_MAX), LAW(9999, 9999)); // not off
	CHECK_EQUAL(governor_widen(LAW(16, 10000), 100 * GOVERNOR_ONE), LAW(1250, 10000));
	CHECK_EQUAL(governor_widen(LAW(9000, 10000), 100 * GOVERNOR_ONE), LAW(9999, 10000));
	CHECK_EQUAL(governor_widen(SAMPLER_FULL, 100 * GOVERNOR_ONE), SAMPLER_FULL);
	CHECK_EQUAL(governor_widen(SAMPLER_OFF | 1ULL << 32, 100 * GOVERNOR_ONE), SAMPLER_OFF | 1ULL << 32);
}

// Of any pair and factor: legal, of the same mode, never denser, the more the wider; and 8 times stays 8 times.
static void test_widen_any(void)
{
	uint64_t chance = 1;
	for (int i = 0; i < 200000; i++) {
		uint32_t max = 1 + (uint32_t)random_below(&chance, 10000), min = 1 + (uint32_t)random_below(&chance, max);
		uint64_t law = LAW(min, max), before = law, widest = governor_widen(law, governor_factor_max(law));
		for (uint32_t factor = GOVERNOR_ONE; factor < 50 * GOVERNOR_ONE; factor += 1 + (uint32_t)random_below(&chance, factor)) {
			uint64_t wide = governor_widen(law, factor);
			CHECK(sampler_interval_valid(wide) && min_of(wide) >= min_of(before) && max_of(wide) >= max_of(before));
			CHECK((wide == SAMPLER_OFF) == (law == SAMPLER_OFF) && (wide == SAMPLER_FULL) == (law == SAMPLER_FULL));
			CHECK(max_of(wide) <= GOVERNOR_MAX_INTERVAL || max_of(wide) == max);
			CHECK(max < 8 * min || max_of(wide) >= 8 * min_of(wide));
			before = wide;
		}
		CHECK(law == SAMPLER_FULL || max > GOVERNOR_MAX_INTERVAL || max_of(widest) == GOVERNOR_MAX_INTERVAL);
	}
}

static void test_widen_bytes(void)
{
	CHECK_EQUAL(governor_widen_bytes(4 << 20, LAW(16, 256), LAW(64, 1024)), 16 << 20);
	CHECK_EQUAL(governor_widen_bytes(4 << 20, LAW(16, 256), LAW(16, 256)), 4 << 20);
	CHECK_EQUAL(governor_widen_bytes(0, LAW(16, 256), LAW(64, 1024)), 0); // none
	CHECK_EQUAL(governor_widen_bytes(UINT64_MAX, LAW(16, 256), LAW(64, 1024)), UINT64_MAX);
	CHECK_EQUAL(governor_widen_bytes(1ULL << 40, SAMPLER_OFF, SAMPLER_OFF), 1ULL << 40);
}

// ---- factors -----------------------------------------------------------------------------------------------

static uint32_t factor_after(uint32_t factor, uint64_t spent_ns, uint64_t elapsed_ns, bool *over)
{
	struct governor_window w = {spent_ns, elapsed_ns, 10000, 1024};
	return governor_factor(factor, 40 * GOVERNOR_ONE, &w, over);
}

static void test_factor(void)
{
	static const struct {
		uint32_t factor, wanted;
		uint64_t spent_us, elapsed_ms;
		bool over;
	} cases[] = {
	    {1024, 1024, 0, 1000, false},
	    {1024, 1024, 9000, 1000, false},      // nine tenths of the budget
	    {1024, 1024, 9700, 1000, false},      // less than a tenth to change
	    {1024, 11377, 100000, 1000, false},   // ten times the budget: at once, to nine tenths of it
	    {1024, 40960, 1000000, 1000, true},
	    {40960, 40960, 10010, 1000, true},    // at the end, and still a little too much
	    {39000, 40960, 10010, 1000, true},
	    {40960, 40960, 9990, 1000, false},
	    {4096, 4096, 9000, 1000, false},
	    {4096, 4096, 8300, 1000, false},
	    {4096, 3640, 8000, 1000, false},
	    {4096, 2048, 1, 1000, false},         // narrower by halves
	    {4096, 2048, 1, 4, false},
	    {4096, 1024, 1, 2000, false},         // one each second
	    {40960, 1280, 1, 5500, false},
	    {40960, 1024, 1, 3600000, false},
	    {1100, 1024, 8000, 1000, false},      // all the way
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		bool over;
		CHECK_EQUAL(factor_after(cases[i].factor, cases[i].spent_us * 1000, cases[i].elapsed_ms * 1000000, &over), cases[i].wanted);
		CHECK_EQUAL(over, cases[i].over);
	}
	bool over;
	struct governor_window none = {SECOND_NS, SECOND_NS, 0, 1024}, most = {UINT64_MAX, UINT64_MAX, 1000000, UINT32_MAX};
	CHECK_EQUAL(governor_factor(20480, 40960, &none, &over), GOVERNOR_ONE);
	CHECK(!over);
	CHECK(governor_factor(UINT32_MAX, UINT32_MAX, &most, &over) >= GOVERNOR_ONE);
	CHECK_EQUAL(factor_after(20480, 0, 1, &over), 10240);
	// Full mode, and knobs that were full until now: nothing is widened, and nothing stays so.
	struct governor_window busy = {SECOND_NS, SECOND_NS, 10000, 1024};
	CHECK_EQUAL(governor_factor(20480, GOVERNOR_ONE, &busy, &over), GOVERNOR_ONE);
	// Two CPUs in use: twice as much.
	struct governor_window two = {18000000, SECOND_NS, 10000, 2048};
	CHECK_EQUAL(governor_factor(GOVERNOR_ONE, 40960, &two, &over), GOVERNOR_ONE);
	CHECK_EQUAL(governor_allowed_ns(&two), 20000000);
}

// A program in thought: every sample costs 2 us, and there are `rate` of them in a second as requested. Time goes from
// sample to sample; the clock ticks each 4 ms.
static struct {
	double now_s, spent_s, window_s, window_began_s;
	uint32_t factor;
	unsigned changes;
} thought;

static void think(double rate, double until_s, double budget)
{
	while (thought.now_s < until_s) {
		thought.now_s += (double)thought.factor / GOVERNOR_ONE / rate;
		thought.spent_s += 2e-6;
		thought.window_s += 2e-6;
		if (thought.window_s < budget * 0.25 && thought.now_s - thought.window_began_s < 1)
			continue;
		double tick = floor(thought.now_s * 250) / 250;
		uint64_t elapsed_ns = (uint64_t)(fmax(tick - floor(thought.window_began_s * 250) / 250, 0.004) * 1e9);
		struct governor_window w = {(uint64_t)(thought.window_s * 1e9), elapsed_ns, (uint32_t)(budget * 1e6), 1024};
		bool over;
		uint32_t before = thought.factor;
		thought.factor = governor_factor(before, 40 * GOVERNOR_ONE, &w, &over);
		thought.changes += thought.factor != before;
		thought.window_s = 0;
		thought.window_began_s = thought.now_s;
	}
}

static void test_steps(void)
{
	thought.factor = GOVERNOR_ONE;
	for (int round = 0; round < 3; round++) {
		double began_s = thought.now_s, spent_s = thought.spent_s;
		think(1000, began_s + 10, 0.01); // a fifth of the budget
		CHECK_EQUAL(thought.factor, GOVERNOR_ONE);
		CHECK(thought.spent_s - spent_s < 0.03);
		began_s = thought.now_s, spent_s = thought.spent_s;
		think(100000, began_s + 0.05, 0.01); // 20 times the budget
		CHECK(thought.spent_s - spent_s < 0.012);
		CHECK(thought.factor > 15 * GOVERNOR_ONE);
		think(100000, began_s + 10, 0.01);
		double share = (thought.spent_s - spent_s) / 10;
		CHECK(share > 0.008 && share < 0.012);
		unsigned changes = thought.changes;
		think(100000, began_s + 20, 0.01); // and rests
		CHECK(thought.changes - changes <= 1);
		think(1000, began_s + 28, 0.01); // back within seconds
		CHECK_EQUAL(thought.factor, GOVERNOR_ONE);
	}
}

// ---- the tracer --------------------------------------------------------------------------------------------

static void *block(uint64_t n) { return (void *)(uintptr_t)(0x560000000000 + n * 64); }

static void start(uint64_t interval, uint64_t python_interval, uint32_t budget_ppm)
{
	const char *why = NULL;
	struct recording_options options = fixture_options(directory, RECORDING_START_BYTES);
	options.interval = interval;
	options.python_interval = python_interval;
	options.budget_ppm = budget_ppm;
	boot();
	CHECK(tracer_start(&options, true, &why));
}

static uint64_t calls;

// Allocates for so long, some millions in a second. The estimate of how many, from the weights.
static uint64_t allocate_for(double seconds)
{
	uint64_t until = clock_monotonic_precise_ns() + (uint64_t)(seconds * 1e9), estimate = 0;
	struct registers caller = REGISTERS_OF_CALLER();
	do
		for (int i = 0; i < 100; i++, calls++) {
			for (unsigned work = 500; work; work--)
				__asm__ volatile("");
			uint32_t weight = hooked_call(64);
			if (!weight)
				continue;
			estimate += weight;
			tracer_allocated(block(calls % 1000), 64, weight, MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, &caller);
			hooked_free(block(calls % 1000));
		}
	while (clock_monotonic_precise_ns() < until);
	return estimate / 1024;
}

static double share_since(uint64_t *cost_ns, uint64_t *at_ns)
{
	uint64_t cost = recording.header->own_cost_ns, now = clock_monotonic_precise_ns();
	double share = (double)(cost - *cost_ns) / (double)(now - *at_ns);
	*cost_ns = cost;
	*at_ns = now;
	return share;
}

// As fast as it goes: the cost comes down to the budget, which others on the machine only make easier.
static void test_widened(void)
{
	struct mlf_header *header = recording.header;
	CHECK_EQUAL(header->governor_state, MLF_GOVERNOR_REQUESTED);
	CHECK(header->effective == header->requested && header->widened_x1024 == GOVERNOR_ONE);
	allocate_for(0.5);
	uint64_t cost_ns = 0, at_ns = 0, before = calls;
	share_since(&cost_ns, &at_ns);
	uint64_t estimate = allocate_for(1.5);
	CHECK(share_since(&cost_ns, &at_ns) <= 1.2e-6 * BUDGET_PPM);
	CHECK(header->widened_x1024 > GOVERNOR_ONE && header->governor_changes > 0);
	CHECK(header->governor_state == MLF_GOVERNOR_WIDENED || header->governor_state == MLF_GOVERNOR_WIDEST);
	CHECK(mean_x2(header->effective) > mean_x2(header->requested) && header->effective >> 32 == header->requested >> 32);
	CHECK(header->effective_sample_bytes > header->requested_sample_bytes);
	CHECK_EQUAL(header->python_effective, governor_widen(header->python_requested, header->widened_x1024));
	CHECK(header->own_cost_ns > 1000 * stats_value(MLF_COUNTER_samples));
	// Five errors of a sum of independent gaps, from above.
	double weight = mean_x2(header->effective) / 2.0;
	CHECK(fabs((double)estimate - (double)(calls - before)) < 5 * sqrt(weight * (double)(calls - before)) + 10000);
	// The look in the hooks is short again, though the law is not the one that was asked for.
	uint32_t quick = 0;
	for (int i = 0; i < 6400; i++)
		if (!sampler_pass_hot(16)) {
			if (tracer_look_hot(16))
				quick++;
			else
				tracer_take(16);
		}
	CHECK(quick >= 50);
}

// A request takes effect within 64 calls, and what it leads to stays governed; off and full are not.
static void test_requests(void)
{
	struct mlf_header *header = recording.header;
	uint64_t epoch = 2ULL << 32;
	static const uint64_t asked[] = {LAW(32, 512), SAMPLER_OFF, LAW(16, 256), SAMPLER_FULL, LAW(16, 256)};
	for (unsigned i = 0; i < ARRAY_LEN(asked); i++) {
		uint32_t factor = header->widened_x1024;
		uint64_t wanted = asked[i] | (epoch += 2ULL << 32);
		header->requested = wanted;
		for (unsigned n = 0; n < SAMPLER_EPOCH_CALLS; n++)
			hooked_call(16);
		CHECK_EQUAL(header->effective, governor_widen(wanted, factor));
		CHECK_EQUAL(sampler_self.law, header->effective);
	}
	CHECK(header->effective != header->requested);
	uint64_t rejected = stats_value(MLF_COUNTER_knobs_rejected), effective = header->effective;
	header->requested = LAW(2, 1) | (epoch += 2ULL << 32);
	for (unsigned n = 0; n < SAMPLER_EPOCH_CALLS; n++)
		hooked_call(16);
	CHECK_EQUAL(stats_value(MLF_COUNTER_knobs_rejected), rejected + 1);
	CHECK(header->effective == effective && (uint32_t)header->requested == LAW(16, 256)); // what was asked for before, not what it was made
	// Python's.
	uint64_t python = LAW(100, 1000) | (epoch += 2ULL << 32);
	header->python_requested = python;
	for (unsigned n = 0; n < SAMPLER_EPOCH_CALLS; n++)
		if (!counter_pass_hot(&tracer_python))
			tracer_take_python();
	CHECK_EQUAL(header->python_effective, governor_widen(python, header->widened_x1024));
	CHECK_EQUAL(tracer_python.law, header->python_effective);
}

static void test_budget_changes(void)
{
	struct mlf_header *header = recording.header;
	uint64_t rejected = stats_value(MLF_COUNTER_knobs_rejected);
	CHECK(!tracer_set_budget(1000001));
	header->budget_ppm = 1ULL << 40; // from outside
	allocate_for(1.2);
	CHECK_EQUAL(header->budget_ppm, BUDGET_PPM);
	CHECK_EQUAL(stats_value(MLF_COUNTER_knobs_rejected), rejected + 1);
	CHECK(tracer_set_budget(0));
	allocate_for(1.3);
	CHECK_EQUAL(header->effective, header->requested);
	CHECK(header->widened_x1024 == GOVERNOR_ONE && header->governor_state == MLF_GOVERNOR_NONE);
	CHECK(tracer_set_budget(1)); // more than can be saved
	allocate_for(2.5);
	CHECK_EQUAL(header->governor_state, MLF_GOVERNOR_WIDEST);
	CHECK_EQUAL((uint32_t)header->effective, LAW(624, 9999));
	CHECK(tracer_set_budget(1000000));
	for (int i = 0; i < 50 && header->widened_x1024 > GOVERNOR_ONE; i++)
		allocate_for(0.3);
	CHECK_EQUAL(header->effective, header->requested); // there is room again
	CHECK_EQUAL(header->governor_state, MLF_GOVERNOR_REQUESTED);
	CHECK(tracer_set_budget(BUDGET_PPM));
}

// A quiet program's knobs come back by cold work alone.
static void test_poll(void)
{
	struct mlf_header *header = recording.header;
	allocate_for(1.5);
	CHECK(header->widened_x1024 > GOVERNOR_ONE);
	for (int i = 0; i < 20 && header->widened_x1024 > GOVERNOR_ONE; i++) {
		usleep(1010000);
		governor_poll(header);
	}
	CHECK_EQUAL(header->effective, header->requested);
}

// A child begins as requested.
static void child(void)
{
	tracer_open_in_child();
	CHECK(tracer_is_recording());
	struct mlf_header *header = recording.header;
	CHECK(header->budget_ppm == BUDGET_PPM && header->widened_x1024 == GOVERNOR_ONE && header->governor_state == MLF_GOVERNOR_REQUESTED);
	CHECK_EQUAL((uint32_t)header->effective, LAW(16, 256));
	CHECK_EQUAL((uint32_t)header->requested, LAW(16, 256));
	CHECK_EQUAL((uint32_t)header->python_effective, LAW(100, 1000));
	CHECK_EQUAL(header->effective_sample_bytes, SAMPLER_DEFAULT_BYTES);
	CHECK_EQUAL(header->own_cost_ns, 0);
	allocate_for(0.5);
	CHECK(header->widened_x1024 > GOVERNOR_ONE); // and has a governor of its own
}

static void test_child(void)
{
	allocate_for(0.5);
	CHECK(recording.header->widened_x1024 > GOVERNOR_ONE);
	in_child(child);
}

// Python's pair beside it is left alone, too: what full costs is not saved there.
static void test_full(uint64_t python_interval)
{
	tracer_stop(MLF_STATE_STOPPED);
	start(SAMPLER_FULL, python_interval, BUDGET_PPM);
	struct mlf_header *header = recording.header;
	header->python_state = MLF_PYTHON_FRAMES;
	uint64_t before = calls, samples = stats_value(MLF_COUNTER_samples);
	allocate_for(0.3);
	CHECK_EQUAL(stats_value(MLF_COUNTER_samples) - samples, calls - before);
	CHECK(header->effective == header->requested && header->python_effective == header->python_requested);
	CHECK(header->governor_changes == 0 && header->governor_state == MLF_GOVERNOR_NONE && header->widened_x1024 == GOVERNOR_ONE);
	tracer_stop(MLF_STATE_STOPPED);
}

static void test_full_as_requested(void) { test_full(SAMPLER_FULL); }
static void test_full_by_intervals(void) { test_full(LAW(1, 64)); }

static void (*const tests[])(void) = {
    test_widened, test_requests, test_budget_changes, test_poll, test_child, test_full_as_requested, test_full_by_intervals,
};

int main(int argc, char **argv)
{
	test_widen();
	test_widen_any();
	test_widen_bytes();
	test_factor();
	test_steps();
	if (argument_given(argc, argv, "--rules"))
		return harness_end();
	directory = temporary_directory();
	start(LAW(16, 256), LAW(256, 4096), BUDGET_PPM);
	unsigned count = argument_given(argc, argv, "--requests") ? 2 : ARRAY_LEN(tests);
	for (unsigned i = 0; i < count && !checks_failed; i++)
		tests[i]();
	remove_directory(directory);
	return harness_end();
}
