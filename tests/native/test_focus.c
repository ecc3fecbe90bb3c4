// test_focus.c -- a focus is adopted whole or not at all, takes all of its part, and leaves the estimates of the rest alone
//
// Chance: a right program fails test_estimates() for fewer than one seed in 100,000; the seed is fixed.
#include "traced.h"

#include "aim.h"
#include "focus.h"
#include "labels.h"
#include "stats.h"

#include <search.h> // what no sanitizer intercepts
#include <sys/mman.h>

#define LAW(min, max) ((uint64_t)(max) << 16 | (min))

static const char *directory;
static struct registers caller;
static uint16_t ours, theirs; // sets of labels

static uint32_t python_call(void) { return counter_pass_hot(&tracer_python) ? 0 : tracer_take_python(); }

static uint32_t judged(uint32_t weight, enum mlf_domain domain)
{
	return weight & SAMPLER_ASK ? focus_judge(weight, domain, &caller) : weight;
}

static uint32_t call_with(uint16_t label)
{
	sampler_self.label = label;
	return judged(hooked_call(64), MLF_DOMAIN_MALLOC);
}

static void run_calls(unsigned n)
{
	while (n--)
		hooked_call(16);
}

// As `memleak set` writes it.
static void ask_from_outside(const char *text)
{
	struct mlf_header *header = recording.header;
	uint64_t length = strlen(text), pair = load_relaxed(&header->requested);
	uint32_t number = ((uint32_t)(load_relaxed(&header->focus_requested) >> 32) + 2) & ~1U;
	for (unsigned i = 0; i < MLF_FOCUS_BYTES; i++)
		store_relaxed(&header->focus_requested_text[i], i < length ? text[i] : 0);
	store_release(&header->focus_requested, (uint64_t)number << 32 | mlf_focus_check(text, number));
	store_relaxed(&header->requested, (((pair >> 32) + 2) & ~1ULL) << 32 | (uint32_t)pair);
}

// ---- words ---------------------------------------------------------------------------------------

static void test_words(void)
{
	static const char *const good[] = {"", "module=a", "module=libfoo.so", "module=main", "label=a=", "label=tenant_id=a=b", "mod=mmap",
					   "mod=operator_new", "label=name=\xC3\xA9"};
	static const char *const bad[] = {" ", "module", "module=", "modules=a", "module=/usr/lib/libfoo.so", "label=", "label=a", "label==a",
					  "mod=", "mod=malloc", "mod=mmap2", "module=a\n", "module=\x01", "label=a=\x7F", "all", "none"};
	char text[300];
	for (unsigned i = 0; i < ARRAY_LEN(good); i++)
		CHECK(focus_is_valid(good[i]));
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		CHECK(!focus_is_valid(bad[i]));
	memset(text, 'x', sizeof(text));
	memcpy(text, "module=", 7);
	text[MLF_FOCUS_BYTES - 1] = 0;
	CHECK(focus_is_valid(text));
	text[MLF_FOCUS_BYTES - 1] = 'x', text[MLF_FOCUS_BYTES] = 0;
	CHECK(!focus_is_valid(text));
	CHECK(!tracer_set_focus(text) && !tracer_set_focus("mod=malloc"));
	CHECK_EQUAL(recording.header->focus_requested, 0);
}

static bool in_force(const char *text)
{
	const struct mlf_header *header = recording.header;
	return strcmp(focus_text(), text) == 0 && strcmp(header->focus_effective_text, text) == 0 &&
	       (uint32_t)header->focus_effective == mlf_focus_check(text, (uint32_t)(header->focus_effective >> 32));
}

static void test_adopting(void)
{
	CHECK_EQUAL(recording.header->focus_bytes, MLF_FOCUS_BYTES);
	ask_from_outside("label=tenant=1");
	CHECK(in_force("") == (recording.header->focus_effective != 0)); // nobody has looked yet
	run_calls(SAMPLER_EPOCH_CALLS);
	CHECK(in_force("label=tenant=1") && recording.header->focus_effective == recording.header->focus_requested);
	CHECK(tracer_set_focus("mod=mmap")); // at once
	CHECK(in_force("mod=mmap") && recording.header->focus_requested >> 32 & 1);
	ask_from_outside("");
	run_calls(SAMPLER_EPOCH_CALLS);
	CHECK(in_force(""));
	CHECK_EQUAL(sampler_focus.native, 0);
	CHECK_EQUAL(stats_value(MLF_COUNTER_knobs_rejected), 0);
}

// Bytes from anywhere: what is in force stays, each word is counted once.
static void test_hostile(void)
{
	struct mlf_header *header = recording.header;
	ask_from_outside("label=tenant=1");
	run_calls(SAMPLER_EPOCH_CALLS);
	uint64_t chance = 88172645463325252, rejected = stats_value(MLF_COUNTER_knobs_rejected), effective = header->focus_effective;
	for (unsigned round = 0; round < 500; round++) {
		for (unsigned i = 0; i < MLF_FOCUS_BYTES; i++)
			header->focus_requested_text[i] = (char)next_random(&chance);
		uint64_t word = next_random(&chance);
		if (round % 2) { // a check that is right for what is wrong
			header->focus_requested_text[MLF_FOCUS_BYTES - 1 - round % 7] = 0;
			word = word >> 32 << 32 | mlf_focus_check(header->focus_requested_text, (uint32_t)(word >> 32));
		}
		header->focus_requested = word;
		run_calls(3 * SAMPLER_EPOCH_CALLS);
		CHECK_EQUAL(stats_value(MLF_COUNTER_knobs_rejected), ++rejected);
		CHECK(header->focus_effective == effective && in_force("label=tenant=1"));
	}
	ask_from_outside("mod=mmap");
	memcpy(header->focus_requested_text, "mod=glibc_malloc", 17); // another writes in between
	run_calls(3 * SAMPLER_EPOCH_CALLS);
	CHECK_EQUAL(stats_value(MLF_COUNTER_knobs_rejected), ++rejected);
	CHECK(header->focus_effective == effective && in_force("label=tenant=1"));
	memset(header->focus_requested_text, 'x', MLF_FOCUS_BYTES); // no end
	memcpy(header->focus_requested_text, "module=", 7);
	header->focus_requested = 77ULL << 32;
	run_calls(3 * SAMPLER_EPOCH_CALLS);
	CHECK_EQUAL(stats_value(MLF_COUNTER_knobs_rejected), ++rejected);
	header->focus_requested = 0;
	run_calls(3 * SAMPLER_EPOCH_CALLS);
	CHECK_EQUAL(stats_value(MLF_COUNTER_knobs_rejected), ++rejected);
	CHECK(call_with(ours) & FOCUS_MATCHED && in_force("label=tenant=1"));
	ask_from_outside("");
	run_calls(SAMPLER_EPOCH_CALLS);
	CHECK(in_force(""));
	CHECK_EQUAL(stats_value(MLF_COUNTER_knobs_rejected), rejected);
}

// Two write at once, one of them from outside: a text is in force that somebody has asked for.
static uint32_t racing;

static void *race(void *unused)
{
	(void)unused;
	sampler_restart();
	while (load_acquire(&racing))
		ask_from_outside("label=tenant=1"), sched_yield();
	return NULL;
}

static void test_race(unsigned rounds)
{
	pthread_t thread;
	store_release(&racing, 1);
	pthread_create(&thread, NULL, race, NULL);
	for (unsigned i = 0; i < rounds; i++) {
		tracer_set_focus(i % 2 ? "label=tenant=2" : "module=a-longer-name-than-the-others");
		run_calls(SAMPLER_EPOCH_CALLS);
		CHECK(in_force("label=tenant=1") || in_force("label=tenant=2") || in_force("module=a-longer-name-than-the-others"));
	}
	store_release(&racing, 0);
	pthread_join(thread, NULL);
	CHECK(tracer_set_focus("") && in_force(""));
	run_calls(SAMPLER_EPOCH_CALLS);
}

// ---- what is recorded ----------------------------------------------------------------------------

static uint64_t chance;

struct sums {
	uint64_t calls, weights;
};

// The error of a sum of weights in standard deviations, at most.
static double error_of(struct sums sum, double mean_weight)
{
	return ((double)sum.weights / 1024 - (double)sum.calls) / sqrt((double)sum.calls * (mean_weight - 1));
}

static void note(struct sums *sum, uint32_t weight)
{
	sum->calls++;
	sum->weights += FOCUS_WEIGHT(weight);
}

// Foci come and go at random moments; which call belongs to the part is random, too.
static void test_estimates(unsigned calls)
{
	static const char *const foci[] = {"", "label=tenant=1", "", "label=tenant=2", "mod=mmap", "label=tenant=1", "mod=pymalloc_obj"};
	struct sums part = {0, 0}, rest = {0, 0}, python_part = {0, 0}, python_rest = {0, 0};
	unsigned wholly = 0;
	for (unsigned i = 0; i < calls; i++) {
		if (random_below(&chance, 700) == 0) {
			const char *text = foci[random_below(&chance, ARRAY_LEN(foci))];
			if (random_below(&chance, 2))
				tracer_set_focus(text);
			else
				ask_from_outside(text);
		}
		uint16_t label = random_below(&chance, 3) ? theirs : ours;
		uint32_t weight = call_with(label);
		note(label == ours ? &part : &rest, weight);
		wholly += (weight & FOCUS_MATCHED) != 0;
		CHECK(!(weight & FOCUS_ALONE) || FOCUS_WEIGHT(weight) == SAMPLER_WEIGHT_ONE);
		weight = judged(python_call(), MLF_DOMAIN_PYMALLOC_OBJ);
		note(label == ours ? &python_part : &python_rest, weight);
	}
	printf("errors in standard deviations: part %.2f, rest %.2f, of Python %.2f, %.2f; %u of %u wholly\n", error_of(part, 136),
	       error_of(rest, 136), error_of(python_part, 2176), error_of(python_rest, 2176), wholly, calls);
	CHECK(wholly > calls / 15);
	CHECK(fabs(error_of(part, 136)) < 4.5 && fabs(error_of(rest, 136)) < 4.5);
	CHECK(fabs(error_of(python_part, 2176)) < 4.5 && fabs(error_of(python_rest, 2176)) < 4.5);
	tracer_set_focus("");
	run_calls(SAMPLER_EPOCH_CALLS);
}

// From the next multiple of 64 on each call of the part is recorded with weight 1, to the one where it ends.
static void test_part_is_whole(void)
{
	for (unsigned round = 0; round < 200; round++) {
		run_calls((unsigned)random_below(&chance, 200));
		unsigned left = SAMPLER_EPOCH_CALLS - sampler_self.calls_mod_64 - (unsigned)(sampler_self.calls_loaded - sampler_self.calls_left);
		tracer_set_focus("label=tenant=1");
		for (unsigned i = 0; i < left; i++)
			CHECK(!(call_with(ours) & FOCUS_MATCHED));
		for (unsigned i = 0; i < 300; i++) {
			uint32_t weight = call_with(ours);
			CHECK(weight & FOCUS_MATCHED && FOCUS_WEIGHT(weight) == SAMPLER_WEIGHT_ONE);
			CHECK(!(call_with(theirs) & (FOCUS_MATCHED | FOCUS_ALONE)));
		}
		for (unsigned i = 0; i < SAMPLER_EPOCH_CALLS; i++)
			python_call();
		for (unsigned i = 0; i < 300; i++) {
			sampler_self.label = i % 2 ? ours : theirs;
			CHECK_EQUAL((judged(python_call(), MLF_DOMAIN_PYMALLOC_MEM) & FOCUS_MATCHED) != 0, i % 2);
		}
		tracer_set_focus("label=tenant=12");
		run_calls(SAMPLER_EPOCH_CALLS);
		CHECK(call_with(theirs) & FOCUS_MATCHED && !(call_with(ours) & FOCUS_MATCHED));
		tracer_set_focus("");
		for (unsigned i = 0; i < 300; i++)
			CHECK(!(call_with(ours) & FOCUS_MATCHED));
		CHECK(sampler_self.focus == 0 && sampler_self.calls_loaded > 0);
	}
}

// The countdowns of the others are those that they would have been without it: same seed, same calls, same draws.
static void test_rest_is_drawn_the_same(void)
{
	enum { CALLS = 20000 };
	static uint32_t without[CALLS];
	for (int focused = 0; focused < 2; focused++) {
		sampler_seed(99);
		sampler_restart();
		tracer_set_focus(focused ? "label=tenant=1" : "");
		for (unsigned i = 0; i < CALLS; i++) {
			uint32_t weight = call_with(theirs);
			if (focused)
				CHECK_EQUAL(weight, without[i]);
			else
				without[i] = weight;
		}
	}
	tracer_set_focus("");
	run_calls(SAMPLER_EPOCH_CALLS);
}

// In the recording: matched, what it has cost, rows of weight 1, mappings; off mode records the part alone.
static void test_recorded(void)
{
	struct mlf_header *header = recording.header;
	CHECK(tracer_configure(SAMPLER_OFF, SAMPLER_OFF, 0) && tracer_set_focus("label=tenant=1"));
	run_calls(2 * SAMPLER_EPOCH_CALLS);
	uint64_t samples = stats_value(MLF_COUNTER_samples), live = totals_of().live, own = header->own_cost_ns, focus = header->focus_cost_ns;
	CHECK_EQUAL(header->focus_matched, 0);
	for (uint64_t i = 0; i < 1000; i++) {
		sampler_self.label = i % 4 ? theirs : ours;
		hooked_malloc((void *)(uintptr_t)(0x560000000000 + i * 64), 32);
		sampler_self.label = 0;
	}
	CHECK_EQUAL(stats_value(MLF_COUNTER_samples) - samples, 250);
	CHECK_EQUAL(totals_of().live - live, 250);
	CHECK_EQUAL(header->focus_matched, 250);
	CHECK_EQUAL(header->own_cost_ns, own); // the budget is for others
	CHECK(header->focus_cost_ns - focus > 250 * 1000);
	struct tracer_moving moving;
	sampler_self.label = ours;
	tracer_moving((void *)0x560000000000, MLF_LAYER_MALLOC, &moving);
	CHECK(moving.was_sampled && moving.sample.weight_x1024 == SAMPLER_WEIGHT_ONE);
	tracer_moved(&moving, (void *)0x570000000000, 64, hooked_call(64), MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, &caller);
	CHECK_EQUAL(totals_of().live - live, 250);
	CHECK_EQUAL(header->focus_matched, 251);
	sampler_self.label = 0;
	tracer_mapped((void *)0x580000000000, 1 << 20, &caller);
	CHECK_EQUAL(totals_of().live - live, 250);
	tracer_set_focus("mod=mmap");
	CHECK_EQUAL(sampler_focus.native, 0); // nobody else need be asked
	tracer_mapped((void *)0x580000000000, 1 << 20, &caller);
	CHECK_EQUAL(totals_of().live - live, 251);
	CHECK_EQUAL(header->focus_matched, 1);
}

// ---- modules, from outside the core: here it is part of the program -------------------------------------------------------------------------------------

static void test_modules(void)
{
	struct aim aim = {.number = 1};
	struct registers in_libm = REGISTERS_OF_CALLER(), in_libc = in_libm, nowhere = in_libm;
	in_libm.pc = (uintptr_t)&cbrt + 1;
	in_libc.pc = (uintptr_t)&insque + 1;
	nowhere.pc = 1 << 20;
	static const struct {
		const char *text;
		bool libm, libc;
	} cases[] = {{"module=libm.so.6", true, false}, {"module=libm.so", true, false}, {"module=libm", true, false}, {"module=lib", false, false},
		     {"module=libm.so.6.1", false, false}, {"module=libc.so.6", false, true}, {"module=libc", false, true},
		     {"module=main", false, false}, {"module=libfoo.so", false, false}};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		CHECK(aim_parse(cases[i].text, &aim));
		aim.number = i + 1;
		for (int twice = 0; twice < 2; twice++) {
			CHECK_EQUAL(aim_matches(&aim, MLF_DOMAIN_MALLOC, &in_libm), cases[i].libm);
			CHECK_EQUAL(aim_matches(&aim, MLF_DOMAIN_MMAP, &in_libc), cases[i].libc);
			CHECK(!aim_matches(&aim, MLF_DOMAIN_MALLOC, &nowhere));
		}
	}
}

// A child's own recording goes on with it.
static void child(void)
{
	for (unsigned i = 0; i < 3000 && !tracer_is_recording(); i++)
		hooked_call(16);
	CHECK(tracer_is_recording() && in_force("label=tenant=1"));
	run_calls(SAMPLER_EPOCH_CALLS);
	for (unsigned i = 0; i < 100; i++)
		CHECK(call_with(ours) & FOCUS_MATCHED && !(call_with(theirs) & FOCUS_MATCHED));
}

int main(int argc, char **argv)
{
	bool long_form = long_run(argc, argv);
	directory = temporary_directory();
	caller = REGISTERS_OF_CALLER();
	chance = 0x2545F4914F6CDD1D;
	ours = (uint16_t)labels_number("route=/\ntenant=1", 16);
	theirs = (uint16_t)labels_number("route=/\ntenant=12", 17);
	start_tracing(directory, LAW(16, 256), true);
	test_words();
	test_adopting();
	test_hostile();
	test_race(long_form ? 200000 : 3000);
	test_estimates(long_form ? 20000000 : 3000000);
	test_part_is_whole();
	test_rest_is_drawn_the_same();
	test_modules();
	tracer_set_focus("label=tenant=1");
	in_child(child);
	test_recorded();
	tracer_stop(MLF_STATE_STOPPED);
	CHECK_EQUAL(sampler_focus.native, 0);
	start_tracing(directory, LAW(16, 256), true);
	CHECK(in_force("") == false && recording.header->focus_requested == 0 && *focus_text() == 0);
	tracer_stop(MLF_STATE_STOPPED);
	remove_directory(directory);
	return harness_end();
}
