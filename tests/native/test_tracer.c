// test_tracer.c -- what a sampled allocation, free, realloc and fork do to the recording; stats
#include "traced.h"

#include "mappings.h"
#include "clock.h"
#include "stats.h"
#include "turn.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define LAW(min, max) ((uint64_t)(max) << 16 | (min))

static const char *directory;
static struct registers caller;

static void *block(uint64_t n) { return (void *)(uintptr_t)(0x560000000000 + n * 64); }

static unsigned files_in_directory(void)
{
	unsigned n = 0;
	DIR *d = opendir(directory);
	for (struct dirent *entry; (entry = readdir(d));)
		n += strstr(entry->d_name, ".mlrec") != NULL;
	closedir(d);
	return n;
}

// ---- stats, before there is a recording -----------------------------------------------------------------

static void test_stats(void)
{
	for (int i = 0; i < 3; i++)
		count(thread_full);
	CHECK_EQUAL(stats_value(MLF_COUNTER_thread_full), 3); // carried over, see test_samples()
}

// ---- samples -------------------------------------------------------------------------------------------

static void test_samples(void)
{
	CHECK_EQUAL(recording.header->counters[MLF_COUNTER_thread_full], 3);
	for (uint64_t i = 0; i < 1000; i++)
		hooked_malloc(block(i), 10 + i);
	struct totals sum = totals_of();
	CHECK_EQUAL(sum.live, 1000);
	CHECK_EQUAL(sum.live_bytes, 10000 + 999 * 500);
	CHECK_EQUAL(stats_value(MLF_COUNTER_samples), 1000);
	for (uint64_t i = 0; i < 1000; i += 2) {
		hooked_free(block(i));
		hooked_free(block(i)); // not ours any more
		hooked_free(block(i + 5000000));
	}
	sum = totals_of();
	CHECK_EQUAL(sum.live, 500);
	CHECK_EQUAL(sum.row_samples, 500);
	CHECK_EQUAL(sum.row_bytes, sum.live_bytes);
	CHECK_EQUAL(stats_value(MLF_COUNTER_forgotten), 500);
	CHECK_EQUAL(stats_value(MLF_COUNTER_lost), 0);
}

// What a process asks about itself: nothing while it is not recorded, or of a block that is none.
static void test_asked_from_inside(void)
{
	struct rows_held held = tracer_held();
	CHECK_EQUAL(held.bytes, totals_of().live_bytes);
	CHECK(held.peak_bytes > held.bytes);
	hooked_malloc(block(700000), 3000000);
	CHECK_EQUAL(tracer_held().bytes, held.bytes + 3000000);
	CHECK_EQUAL(tracer_held().peak_bytes, held.bytes + 3000000);
	const struct mlf_row *row = recording_at(tracer_row_at(block(700000)));
	CHECK(row->record.kind == MLF_RECORD_ROW && row->alloc_bytes >= 3000000);
	hooked_free(block(700000));
	CHECK_EQUAL(tracer_row_at(block(700000)), 0);
	CHECK(tracer_held().bytes == held.bytes && tracer_held().peak_bytes == held.bytes + 3000000);
	tracer_reset_peak();
	CHECK_EQUAL(tracer_held().peak_bytes, held.bytes);
}

static void test_address_comes_again(void)
{
	uint64_t samples = stats_value(MLF_COUNTER_samples), live = totals_of().live;
	hooked_malloc(block(2000), 100);
	hooked_malloc(block(2000), 300); // freed out of our sight in between
	struct totals sum = totals_of();
	CHECK_EQUAL(sum.live, live + 1);
	CHECK_EQUAL(sum.row_samples, sum.live);
	CHECK_EQUAL(sum.row_bytes, sum.live_bytes);
	CHECK_EQUAL(sum.lost, 1);
	CHECK_EQUAL(stats_value(MLF_COUNTER_lost), 1);
	CHECK_EQUAL(stats_value(MLF_COUNTER_samples), samples + 2);
	hooked_free(block(2000));
	CHECK_EQUAL(totals_of().live, live);
}

static void test_realloc(void)
{
	struct tracer_moving moving, back;
	struct totals before = totals_of();
	tracer_moving(block(1), MLF_LAYER_MALLOC, &moving);
	CHECK(moving.was_sampled && moving.sample.size_bytes == 11 && moving.sample.weight_x1024 == SAMPLER_WEIGHT_ONE);
	CHECK_EQUAL(totals_of().live, before.live - 1); // while it is realloc's it is not in the set
	tracer_move_failed(block(1), MLF_LAYER_MALLOC, &moving);
	struct totals after = totals_of();
	CHECK(memcmp(&before, &after, sizeof(before)) == 0);
	tracer_moving(block(1), MLF_LAYER_MALLOC, &back);
	CHECK(back.was_sampled && back.sample.born_cs == moving.sample.born_cs && back.sample.row == moving.sample.row && back.sample.thread == moving.sample.thread &&
	      back.sample.size_bytes == moving.sample.size_bytes);

	usleep(40000); // the birth time must be the old one
	tracer_moved(&back, block(3000), 7000, SAMPLER_WEIGHT_ONE, MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, &caller);
	tracer_moving(block(3000), MLF_LAYER_MALLOC, &moving);
	CHECK(moving.was_sampled && moving.sample.size_bytes == 7000 && moving.sample.born_cs == back.sample.born_cs);
	tracer_moved(&moving, block(3001), 7000, 0, MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, &caller); // not sampled at its new place
	CHECK_EQUAL(totals_of().live, before.live - 1);
	tracer_moving(block(3001), MLF_LAYER_MALLOC, &moving);
	CHECK(!moving.was_sampled);
	tracer_move_failed(block(3001), MLF_LAYER_MALLOC, &moving);
	tracer_moved(&moving, block(3002), 50, SAMPLER_WEIGHT_ONE, MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, &caller); // not sampled before
	CHECK_EQUAL(totals_of().live, before.live);
	CHECK_EQUAL(totals_of().row_samples, before.live);
	CHECK_EQUAL(totals_of().row_bytes, totals_of().live_bytes);
}

// ---- knobs -----------------------------------------------------------------------------------------------

static void run_calls(unsigned n)
{
	while (n--)
		hooked_call(16);
}

static void test_knobs(void)
{
	struct mlf_header *header = recording.header;
	static const uint64_t bad[][2] = {{0, 0}, {LAW(2, 1), 0}, {LAW(0, 10), 0}, {LAW(1, 10001), 0}, {LAW(1, 65535), 0}, {LAW(16, 256), 4095},
					  {LAW(16, 256), 1}};
	uint64_t epoch = 1ULL << 32;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		uint64_t effective = header->effective, bytes = header->effective_sample_bytes;
		uint64_t rejected = stats_value(MLF_COUNTER_knobs_rejected);
		header->requested_sample_bytes = bad[i][1];
		header->requested = bad[i][0] | (epoch += 1ULL << 32);
		run_calls(SAMPLER_EPOCH_CALLS);
		CHECK_EQUAL(stats_value(MLF_COUNTER_knobs_rejected), rejected + 1);
		CHECK(header->effective == effective && header->effective_sample_bytes == bytes);
		CHECK(header->requested == effective && header->requested_sample_bytes == bytes);
		CHECK_EQUAL(sampler_self.law, effective);
	}
	static const uint64_t good[][2] = {{LAW(16, 256), 4096}, {LAW(10000, 10000), 0}, {LAW(3, 3), UINT64_MAX}, {LAW(1, 1), 4 << 20}};
	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		uint64_t rejected = stats_value(MLF_COUNTER_knobs_rejected), wanted = good[i][0] | (epoch += 1ULL << 32);
		header->requested_sample_bytes = good[i][1];
		header->requested = wanted;
		run_calls(SAMPLER_EPOCH_CALLS);
		CHECK(header->effective == wanted && header->effective_sample_bytes == good[i][1]);
		CHECK(sampler_self.law == wanted && sampler_self.sample_bytes == good[i][1]);
		CHECK_EQUAL(stats_value(MLF_COUNTER_knobs_rejected), rejected);
	}
	CHECK_EQUAL((uint32_t)header->effective, SAMPLER_FULL); // as the tests behind this one want it
}

// The word with the next epoch of ours: the next odd number.
static uint64_t changed(uint64_t word, uint64_t interval) { return (((word >> 32) + 1) | 1) << 32 | (uint32_t)interval; }

// What is asked for as it is already is no change: an answer that was exact stays so.
static void test_configure(void)
{
	struct mlf_header *header = recording.header;
	uint64_t native = header->requested, python = header->python_requested, bytes = header->requested_sample_bytes;
	CHECK(tracer_configure((uint32_t)native, (uint32_t)python, bytes));
	CHECK(header->requested == native && header->python_requested == python);
	CHECK(tracer_configure((uint32_t)native, LAW(5, 50), bytes));
	CHECK(header->requested == native);
	CHECK_EQUAL(header->python_requested, changed(python, LAW(5, 50)));
	CHECK(tracer_configure((uint32_t)native, LAW(5, 50), bytes + 4096)); // goes with the pair in front of it
	CHECK_EQUAL(header->requested, changed(native, native));
	CHECK(tracer_configure(LAW(7, 70), LAW(5, 50), bytes));
	CHECK_EQUAL(header->requested, changed(changed(native, native), LAW(7, 70)));
	CHECK_EQUAL(header->python_requested, changed(python, LAW(5, 50)));
	CHECK(tracer_configure((uint32_t)native, (uint32_t)python, bytes));
	run_calls(SAMPLER_EPOCH_CALLS);
	CHECK_EQUAL((uint32_t)header->effective, SAMPLER_FULL);
}

static void test_nested(void)
{
	uint64_t nested = stats_value(MLF_COUNTER_nested), law = recording.header->effective;
	recording.header->requested = LAW(9999, 10000) | 1ULL << 48; // so that sizes matter, not calls
	run_calls(SAMPLER_EPOCH_CALLS);
	uint64_t rest = sampler_self.bytes_rest;
	sampler_self.busy = 1; // a signal handler inside our own code
	for (int i = 0; i < 100; i++)
		CHECK_EQUAL(hooked_call(SAMPLER_SIZE_ALWAYS), 0);
	sampler_self.busy = 0;
	CHECK(stats_value(MLF_COUNTER_nested) >= nested + 100);
	CHECK(sampler_self.bytes_left < SAMPLER_SIZE_ALWAYS && sampler_self.bytes_rest == rest);
	CHECK_EQUAL(hooked_call(SAMPLER_SIZE_ALWAYS), SAMPLER_WEIGHT_ONE);
	recording.header->requested = (uint32_t)law | 1ULL << 49;
	run_calls(SAMPLER_EPOCH_CALLS);
	CHECK_EQUAL((uint32_t)sampler_self.law, SAMPLER_FULL);
}

// ---- Python's small objects -------------------------------------------------------------------------------

static uint32_t python_call(void) { return counter_pass_hot(&tracer_python) ? 0 : tracer_take_python(); }

// In which calls of these the first four samples are drawn.
static void draw_python(uint32_t *hits)
{
	for (uint32_t call = 1, found = 0; found < 4; call++)
		if (python_call())
			hits[found++] = call;
}

static uint32_t (*drawn)[4]; // shared with children

static void draw_in_child(void)
{
	run_calls(2000);
	CHECK(tracer_is_recording());
	unsigned mine = drawn[1][0] ? 2 : 1;
	draw_python(drawn[mine]);
}

// The seed decides, and workers that were forked from one process do not all sample the same.
static void test_python_draws(void)
{
	drawn = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 2; i++) {
		start_tracing(directory, LAW(16, 256), true);
		draw_python(drawn[i ? 3 : 0]);
		if (i == 0)
			tracer_stop(MLF_STATE_STOPPED);
	}
	CHECK(memcmp(drawn[0], drawn[3], sizeof(drawn[0])) == 0);
	in_child(draw_in_child);
	in_child(draw_in_child);
	CHECK(drawn[1][0] && drawn[2][0]);
	CHECK(memcmp(drawn[0], drawn[1], sizeof(drawn[0])) != 0);
	CHECK(memcmp(drawn[1], drawn[2], sizeof(drawn[0])) != 0);
	munmap(drawn, PAGE_BYTES);
	tracer_stop(MLF_STATE_STOPPED);
}

// Each call counts from a start in full mode on, whatever was drawn before it.
static void test_python_from_the_start(void)
{
	for (int i = 0; i < 100; i++)
		CHECK_EQUAL(python_call(), 0); // stopped
	struct recording_options options = fixture_options(directory, RECORDING_START_BYTES);
	const char *why = NULL;
	options.python_interval = SAMPLER_FULL;
	CHECK(tracer_start(&options, true, &why));
	for (int i = 0; i < 100; i++)
		CHECK_EQUAL(python_call(), SAMPLER_WEIGHT_ONE);
	tracer_stop(MLF_STATE_STOPPED);
}

// ---- forked children ---------------------------------------------------------------------------------------

static uint64_t parent_id, parent_interval;
static char parent_path[RECORDING_PATH_MAX];

static unsigned calls_until_own(unsigned most)
{
	unsigned n = 0;
	while (n < most && !tracer_is_recording()) {
		n++;
		hooked_malloc(block(100000 + n), 48);
		hooked_free(block(n)); // the parent's samples are not ours to remove
	}
	return n;
}

static void *allocate_in_thread(void *number)
{
	for (uint64_t i = 0; i < 500; i++)
		hooked_malloc(block(200000 + (uintptr_t)number * 1000 + i), 32);
	return NULL;
}

static void grandchild_body(void)
{
	calls_until_own(5000);
	CHECK(tracer_is_recording() && recording.header->parent_recording_id == parent_id);
	CHECK_EQUAL(recording.header->pid, getpid());
}

static void child_body(void)
{
	CHECK(!tracer_is_recording());
	struct mappings_cut unmapped;
	tracer_mapped(block(0), 1 << 20, &caller); // nothing of this may reach the parent's recording
	tracer_unmapping(block(0), 1 << 20, &unmapped);
	CHECK_EQUAL(unmapped.count, 0);
	unsigned calls = calls_until_own(5000);
	CHECK(calls >= 1000 - 2 * SAMPLER_EPOCH_CALLS && calls <= 1000 + 2 * SAMPLER_EPOCH_CALLS);
	struct mlf_header *header = recording.header;
	CHECK(tracer_is_recording() && !recording.is_private && strcmp(recording.path, parent_path) != 0);
	CHECK_EQUAL(header->pid, getpid());
	CHECK_EQUAL(header->parent_pid, getppid());
	CHECK(header->parent_recording_id == parent_id && header->recording_id != parent_id);
	CHECK_EQUAL((uint32_t)header->effective, (uint32_t)parent_interval); // knobs are inherited
	CHECK_EQUAL(totals_of().live, 0);                              // live samples are not
	CHECK(stats_value(MLF_COUNTER_detached) > 0);
	CHECK_EQUAL(stats_value(MLF_COUNTER_samples), 0);
	in_threads(4, allocate_in_thread);
	run_calls(1);
	CHECK_EQUAL(totals_of().live, 4 * 500);
	parent_id = header->recording_id; // a grandchild names its own parent
	in_child(grandchild_body);
}

static void exec_body(void) // fork and exec: not enough calls for a recording
{
	unsigned calls = calls_until_own(800);
	CHECK_EQUAL(calls, 800);
	CHECK(stats_counters != recording.header->counters); // the parent's
}

// While somebody starts or stops, or opens it already, nobody else does.
static void grandchild_of_a_busy_one(void)
{
	unsigned calls = calls_until_own(5000);
	CHECK(calls >= 1000 - 2 * SAMPLER_EPOCH_CALLS && calls <= 1000 + 2 * SAMPLER_EPOCH_CALLS);
	CHECK(stats_counters == recording.header->counters);
}

static void busy_body(void)
{
	CHECK(turn_try(&tracer_turn));
	CHECK_EQUAL(calls_until_own(5000), 5000);
	in_child(grandchild_of_a_busy_one);
	turn_leave(&tracer_turn);
	CHECK(calls_until_own(5000) <= SAMPLER_EPOCH_CALLS);
	CHECK(stats_counters == recording.header->counters);
}

static void awaiting_body(void)
{
	CHECK(tracer_await_child() && tracer_is_recording());
	CHECK(!tracer_await_child() && recording.header->pid == (uint32_t)getpid());
	CHECK(turn_try(&tracer_turn));
}

static void not_followed_body(void)
{
	CHECK_EQUAL(calls_until_own(5000), 5000);
	CHECK_EQUAL(calls_until_own(100), 100);
	CHECK(tracer_await_child() && !tracer_is_recording());
}

// The parent's whole file, byte for byte.
static unsigned char *copy_of_recording(void)
{
	unsigned char *copy = mmap(NULL, recording.header->room_backed, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(copy, recording.base, recording.header->room_backed);
	return copy;
}

static void compare_with_copy(unsigned char *copy)
{
	CHECK(memcmp(copy, recording.base, recording.header->room_backed) == 0);
	munmap(copy, recording.header->room_backed);
}

static void test_forked_child(void)
{
	unsigned files = files_in_directory();
	unsigned char *copy = copy_of_recording();
	parent_id = recording.header->recording_id;
	parent_interval = recording.header->effective;
	strcpy(parent_path, recording.path);
	in_child(exec_body);
	CHECK_EQUAL(files_in_directory(), files);
	in_child(child_body);
	CHECK_EQUAL(files_in_directory(), files + 2);
	in_child(busy_body);
	in_child(awaiting_body);
	CHECK_EQUAL(files_in_directory(), files + 5);
	compare_with_copy(copy);
}

// As Go's runtime or a container tool forks: no handler of libc's runs.
static void test_raw_clone(void)
{
	unsigned char *copy = copy_of_recording();
	fflush(NULL);
	long child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (child == 0) {
		checks_failed = 0;
		CHECK(!tracer_is_recording());
		unsigned calls = calls_until_own(5000);
		CHECK(calls < 1200 && recording.header->pid == (uint32_t)syscall(SYS_getpid));
		syscall(SYS_exit_group, checks_failed != 0);
	}
	int status;
	CHECK(waitpid((pid_t)child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	compare_with_copy(copy);
}

// A vfork child runs on the parent's memory: what it does is the parent's.
static int vfork_child(void *unused)
{
	(void)unused;
	hooked_malloc(block(300000), 77);
	return 0;
}

static void test_vfork(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	uint64_t live = totals_of().live;
	int status;
	pid_t child = clone(vfork_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(tracer_is_recording());
	CHECK_EQUAL(totals_of().live, live + 1);
	hooked_free(block(300000));
	CHECK_EQUAL(totals_of().live, live);
}

// ---- the end -------------------------------------------------------------------------------------------------

// What a probe finds out is kept for good, so it must not depend on whether there is a recording.
static void probe(void)
{
	struct tracer_probe probe = tracer_probe_begin();
	hooked_malloc(block(800000), 40);
	CHECK(tracer_probe_end(&probe, (char *)block(800000) + 16)); // behind a header of a hook in between
	CHECK(!tracer_probe_end(&probe, block(800001)));
}

static void test_stop_and_start(void)
{
	uint32_t number = recording.number, thread = sampler_self.thread;
	struct mlf_header *header = recording.header;
	CHECK(thread != 0);
	tracer_stop(MLF_STATE_STOPPED);
	CHECK(!tracer_is_recording() && header->state == MLF_STATE_STOPPED && header->stopped_at_cs != 0);
	unsigned char *copy = copy_of_recording();
	for (uint64_t i = 0; i < 2000; i++) {
		hooked_malloc(block(i), 20);
		hooked_free(block(i + 1));
	}
	CHECK(tracer_row_at(block(0)) == 0 && tracer_held().bytes == 0);
	tracer_reset_peak();
	probe();
	compare_with_copy(copy);
	start_tracing(directory, SAMPLER_FULL, false);
	CHECK_EQUAL(recording.number, number + 1);
	probe();
	run_calls(SAMPLER_EPOCH_CALLS); // noticed at the next multiple of 64
	hooked_malloc(block(1), 20);
	CHECK_EQUAL(totals_of().live, 1);
	CHECK(tracer_held().bytes == 20 && tracer_held().peak_bytes == 20);
	CHECK_EQUAL(sampler_self.thread, 1);
	in_child(not_followed_body);
}

// A child that was forked while another thread looked whether there is a recording.

static uint32_t mapping;

static void *map_all_the_time(void *unused)
{
	while (load_relaxed(&mapping))
		tracer_mapped((void *)0x560000000000, 1U << 20, &caller);
	return unused;
}

static void restarting_body(void)
{
	start_tracing(directory, SAMPLER_FULL, false);
	tracer_stop(MLF_STATE_STOPPED);
	start_tracing(directory, SAMPLER_FULL, false);
}

static void test_forked_before_the_start(void)
{
	const char *usual = directory;
	pthread_t thread;
	directory = temporary_directory(); // what these leave is nobody's business
	store_relaxed(&mapping, 1);
	CHECK(pthread_create(&thread, NULL, map_all_the_time, NULL) == 0);
	for (int i = 0; i < 20 && !checks_failed; i++)
		in_child(restarting_body);
	store_relaxed(&mapping, 0);
	pthread_join(thread, NULL);
	remove_directory(directory);
	directory = usual;
}

// A realloc, an munmap begun under one recording and ended under another: neither puts anything into the new one.
static void test_restarted_in_between(void)
{
	struct tracer_moving moving[2];
	hooked_malloc(block(700000), 20);
	hooked_malloc(block(700001), 20);
	tracer_moving(block(700000), MLF_LAYER_MALLOC, &moving[0]);
	tracer_moving(block(700001), MLF_LAYER_MALLOC, &moving[1]);
	CHECK(moving[0].was_sampled && moving[1].was_sampled);
	tracer_stop(MLF_STATE_STOPPED);
	start_tracing(directory, SAMPLER_FULL, false);
	tracer_move_failed(block(700000), MLF_LAYER_MALLOC, &moving[0]);
	CHECK_EQUAL(totals_of().live, 0);
	tracer_moved(&moving[1], block(700002), 30, SAMPLER_WEIGHT_ONE, MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, &caller);
	struct totals sum = totals_of();
	CHECK(sum.live == 1 && sum.row_samples == 1 && sum.row_bytes == 30);
	CHECK_EQUAL(stats_value(MLF_COUNTER_forgotten), 0);
}

// A thread that is held in the middle of a sample.

static uint32_t held, released;

static void hold_if_inside(int number)
{
	(void)number;
	if (load_relaxed(&sampler_self.busy) != 1)
		return;
	store_relaxed(&held, 1);
	while (!load_relaxed(&released))
		sched_yield();
}

static void *sample_until_held(void *unused)
{
	(void)unused;
	for (uint64_t i = 0; !load_relaxed(&released); i = (i + 1) % 100) {
		hooked_malloc(block(800000 + i), 20);
		hooked_free(block(800000 + i));
	}
	return NULL;
}

static void test_thread_inside(void)
{
	struct recording_options options = fixture_options(directory, RECORDING_START_BYTES);
	const char *why = NULL;
	pthread_t thread;
	signal(SIGUSR1, hold_if_inside);
	CHECK(pthread_create(&thread, NULL, sample_until_held, NULL) == 0);
	while (!load_relaxed(&held)) {
		pthread_kill(thread, SIGUSR1);
		usleep(100);
	}
	uint64_t id = recording.header->recording_id;
	tracer_stop(MLF_STATE_STOPPED);
	CHECK(!tracer_is_recording() && !tracer_start(&options, false, &why)); // its tables may not be taken from it
	CHECK(why && strstr(why, "try again") && recording.header->recording_id == id);
	store_relaxed(&released, 1);
	pthread_join(thread, NULL);
	start_tracing(directory, SAMPLER_FULL, false);
	CHECK(recording.header->recording_id != id && totals_of().live == 0);
}

// Threads in sampled code while the recording under them is stopped and replaced, again and again.

static uint32_t restarting;

static void *sample_all_the_time(void *argument)
{
	uint64_t state = (uintptr_t)argument, base = 400000 + (uint64_t)(uintptr_t)argument * 10000;
	struct tracer_moving moving;
	while (load_relaxed(&restarting)) {
		uint64_t n = base + random_below(&state, 500);
		hooked_malloc(block(n), 100);
		tracer_moving(block(n), MLF_LAYER_MALLOC, &moving);
		tracer_moved(&moving, block(n + 5000), 200, SAMPLER_WEIGHT_ONE, MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, &caller);
		tracer_moving(block(n + 5000), MLF_LAYER_MALLOC, &moving);
		tracer_move_failed(block(n + 5000), MLF_LAYER_MALLOC, &moving);
		hooked_free(block(n + 5000));
	}
	return NULL;
}

static void test_restarted_under_threads(bool long_form)
{
	enum { THREADS = 6 };
	pthread_t threads[THREADS];
	store_relaxed(&restarting, 1);
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, sample_all_the_time, (void *)(i + 1)) == 0);
	for (int i = 0; i < (long_form ? 2000 : 60); i++) {
		usleep(1000);
		tracer_stop(MLF_STATE_STOPPED);
		unsigned char *copy = copy_of_recording(); // whole: nobody was left inside
		struct totals sum = totals_of();
		// One sample a thread may have been on its way from one address to another: its row still counts it.
		CHECK(sum.live <= THREADS && sum.row_samples >= sum.live && sum.row_samples <= sum.live + THREADS);
		usleep(500);
		compare_with_copy(copy); // and frozen
		start_tracing(directory, SAMPLER_FULL, false);
	}
	store_relaxed(&restarting, 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK(totals_of().live <= THREADS); // taken out of a recording that was replaced, or allocated while stopped
	CHECK_EQUAL(stats_value(MLF_COUNTER_lost), 0);
}

static void test_displaced(void)
{
	uint64_t live = totals_of().live;
	for (uint64_t i = 0; i < 300; i++)
		hooked_malloc(block(600000 + i), 50);
	CHECK_EQUAL(totals_of().live, live + 300);
	tracer_hooks_were_displaced();
	struct totals sum = totals_of();
	CHECK_EQUAL(sum.live, 0);
	CHECK_EQUAL(sum.row_samples, 0);
	CHECK_EQUAL(stats_value(MLF_COUNTER_displaced), live + 300);
	hooked_free(block(600000)); // no longer ours
	hooked_malloc(block(600000), 50);
	CHECK_EQUAL(totals_of().live, 1);
}

int main(int argc, char **argv)
{
	directory = temporary_directory();
	caller = REGISTERS_OF_CALLER();
	test_stats();
	test_forked_before_the_start();
	start_tracing(directory, SAMPLER_FULL, true);
	test_samples();
	test_asked_from_inside();
	test_address_comes_again();
	test_realloc();
	test_knobs();
	test_configure();
	test_nested();
	test_forked_child();
	test_raw_clone();
#ifndef __SANITIZE_THREAD__ // which takes the child's frames for its parent's
	test_vfork();
#else
	(void)test_vfork;
#endif
	test_stop_and_start();
	test_restarted_in_between();
	test_thread_inside();
	if (checks_failed)
		return harness_end(); // what follows takes seconds
	test_restarted_under_threads(long_run(argc, argv));
	test_displaced();
	tracer_stop(MLF_STATE_STOPPED);
	test_python_draws();
	test_python_from_the_start();
	remove_directory(directory);
	return harness_end();
}
