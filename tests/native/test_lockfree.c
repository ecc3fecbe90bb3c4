// test_lockfree.c -- a thread stopped at any atomic step of the tables stops no other
//
//     test_lockfree [--long | --short]
//
// A victim thread is single-stepped (ptrace) through one table operation, in a process of its own, and
// left standing right after its Nth locked instruction, for every N. Seven others must then finish
// their operations, on the same buckets and windows too. Then the victim goes on, and the tables must
// add up. Nothing in the core knows of this.
#include "liveset_check.h"

#include "index.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define OTHERS 7
#define LAYER MLF_LAYER_MALLOC
#define VICTIM_LOW 0x00C0DE00U // the bit that the victim's address and an eighth of the others' share
#ifndef DEADLINE_MS
#define DEADLINE_MS 60000
#endif

static struct shared { // between this process and the one under test
	uint32_t victim_tid, finished, go, quit, failures;
	uint64_t operations, dropped, done[OTHERS];
} *shared;

static uint64_t operations_each;

// ---- the victim's operations ---------------------------------------------------------------------------

#define HOLD() __asm__ volatile("int3") // where single-stepping begins and ends

static struct rows_stack stack_of(uint64_t *frame, uint64_t number)
{
	frame[0] = 0; // module 0: not known
	return (struct rows_stack){.frame = frame, .frames = 1, .hash = number * MLF_CHECK_1};
}

static void *victim_address(void) { return aliasing(VICTIM_LOW, 60000); }

static bool live_insert(const void *address, uint64_t number)
{
	struct live_sample sample = sample_for(address, number);
	return liveset_insert(address, LAYER, &sample);
}

static struct live_sample removed;
static struct mlf_row *victim_row;
static uint64_t frames[4];

static void fill_buckets(void) // of the shared bit, in the one segment there is
{
	for (unsigned i = 0; i < 2 * MLF_LIVE_BUCKET; i++)
		live_insert(aliasing(VICTIM_LOW, 61000 + i), i);
}

static void fill_window(void) // of the key 5, in the one segment there is
{
	const struct recording_table *table = recording_segment(MLF_KIND_ROW_INDEX, 0);
	for (unsigned i = 0; i < MLF_INDEX_WINDOW; i++) {
		uint64_t key = 5 + (uint64_t)(i + 1) * table->capacity, *record = recording_take(16, 16);
		record[1] = key;
		index_insert(MLF_KIND_ROW_INDEX, key, recording_ref(record));
	}
}

static void insert_victim(void) { live_insert(victim_address(), 7); }
static void remove_victim(void) { liveset_remove(victim_address(), LAYER, &removed); }
static void new_row(void)
{
	struct rows_stack stack = stack_of(frames, 1);
	victim_row = rows_of(&stack, MLF_DOMAIN_MALLOC, 1);
}
static void new_index_segment(void)
{
	uint64_t *record = recording_take(16, 16);
	record[1] = 5;
	index_insert(MLF_KIND_ROW_INDEX, 5, recording_ref(record));
}
static void first_sample(void) { rows_add(victim_row, 100, 2048, 1); }
static void add_and_remove(void)
{
	rows_add(victim_row, 100, 2048, 3 * MLF_HISTORY_UNIT_CS); // a later history unit: makes the history
	rows_remove(victim_row, 100, 2048, 3 * MLF_HISTORY_UNIT_CS);
}

static const struct operation {
	const char *name;
	void (*prepare[2])(void);
	void (*run)(void);
	unsigned least_steps; // locked instructions it must at least have
} operations[] = {
    {"live insert", {0}, insert_victim, 2},
    {"live remove", {insert_victim}, remove_victim, 2},
    {"live insert, new segment", {fill_buckets}, insert_victim, 5},
    {"stack and row insert", {0}, new_row, 4},
    {"row insert, new segment", {fill_window}, new_index_segment, 5},
    {"counters and history", {new_row, first_sample}, add_and_remove, 8},
};

// ---- the process under test ----------------------------------------------------------------------------

static void (*victim_run)(void);

static void *victim(void *unused)
{
	store_release(&shared->victim_tid, (uint32_t)syscall(SYS_gettid));
	while (!load_acquire(&shared->go))
		usleep(200);
	HOLD();
	victim_run();
	HOLD();
	return unused;
}

// A sampled allocation and its free, as the tracer does them.
static void *other(void *number)
{
	uint64_t me = (uintptr_t)number, state = 77 + me, frame[1], dropped = 0, failures = 0;
	while (!load_acquire(&shared->victim_tid) || load_acquire(&shared->go) < 2)
		usleep(200);
	for (uint64_t i = 0; i < shared->operations; i++) {
		// Stacks: the victim's new one, 2,000 common ones, now and then one that nobody has seen.
		uint64_t stack_number = i % 16 == 0 ? 1 : i % 64 == 1 ? 1000000 * (me + 1) + i : 2 + random_below(&state, 2000);
		struct rows_stack stack = stack_of(frame, stack_number);
		struct mlf_row *row = rows_of(&stack, MLF_DOMAIN_MALLOC, (uint32_t)(1 + i / 64));
		rows_add(row, 64, 2048, (uint32_t)(1 + i / 64));
		void *address = i % 8 == 0 ? aliasing(VICTIM_LOW, (uint32_t)me)
					   : (void *)(uintptr_t)(0x550000000000 + me * 0x1000000 + random_below(&state, 4096) * 32);
		if (live_insert(address, i)) {
			struct live_sample out, expected = sample_for(address, i);
			failures += !bitmap_test_hot(address);
			failures += !liveset_remove(address, LAYER, &out) || !sample_equal(&out, &expected);
		} else {
			dropped++;
		}
		rows_remove(row, 64, 2048, (uint32_t)(1 + i / 64));
		store_relaxed(&shared->done[me], i + 1);
	}
	add_relaxed(&shared->dropped, dropped);
	add_relaxed(&shared->failures, (uint32_t)failures);
	add_relaxed(&shared->finished, 1);
	return NULL;
}

static _Noreturn void under_test(const struct operation *operation)
{
	pthread_t thread[OTHERS + 1];
	open_private(operations_each > 100000 ? 128U << 20 : 24U << 20); // new rows fill it
	for (unsigned i = 0; i < 2 && operation->prepare[i]; i++)
		operation->prepare[i]();
	victim_run = operation->run;
	pthread_create(&thread[OTHERS], NULL, victim, NULL);
	for (unsigned i = 0; i < OTHERS; i++)
		pthread_create(&thread[i], NULL, other, (void *)(uintptr_t)i);
	for (unsigned i = 0; i <= OTHERS; i++)
		pthread_join(thread[i], NULL);
	// Everything but what the victim inserted is gone, whole, and no bit is missing.
	unsigned held, wrong, live = count_live(&held, &wrong), prepared = operation->prepare[0] == fill_buckets ? 16 : 0;
	CHECK_EQUAL(held + wrong, 0);
	CHECK_EQUAL(live, prepared + (operation->run == insert_victim));
	CHECK(stats_value(MLF_COUNTER_live_full) + stats_value(MLF_COUNTER_live_race) >= shared->dropped);
	_exit(checks_failed ? 1 : 0);
}

// ---- the tracer ------------------------------------------------------------------------------------------

// Does an instruction that locks the bus begin here? The child is our fork: same code, same place.
static bool is_locked(const unsigned char *at)
{
	while (*at == 0x66 || *at == 0xF2 || *at == 0xF3 || *at == 0x2E || *at == 0x3E)
		at++;
	if (*at == 0xF0)
		return true;
	if ((*at & 0xF0) == 0x40)
		at++;
	return (*at == 0x86 || *at == 0x87) && at[1] < 0xC0; // xchg with memory locks by itself
}

static const unsigned char *instruction(pid_t thread)
{
	struct user_regs_struct registers;
	if (ptrace(PTRACE_GETREGS, thread, NULL, &registers) != 0)
		return NULL;
	return (const unsigned char *)(uintptr_t)registers.rip;
}

static bool step_to_stop(pid_t thread, int request)
{
	int status;
	return ptrace(request, thread, NULL, NULL) == 0 && waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status);
}

// Steps to right after the Nth locked instruction (N = 0: to the beginning). False: there are fewer.
static bool step_past(pid_t thread, unsigned n)
{
	for (unsigned locked = 0; locked < n;) {
		const unsigned char *at = instruction(thread);
		if (!at || *at == 0xCC)
			return false;
		locked += is_locked(at);
		if (!step_to_stop(thread, PTRACE_SINGLESTEP))
			return false;
	}
	return true;
}

static unsigned finished_within(unsigned milliseconds)
{
	for (; milliseconds && load_acquire(&shared->finished) < OTHERS; milliseconds--)
		usleep(1000);
	return load_acquire(&shared->finished);
}

// False once the operation has fewer than n locked instructions.
static bool stop_after(const struct operation *operation, unsigned n)
{
	memset(shared, 0, sizeof(*shared));
	shared->operations = operations_each;
	pid_t child = fork();
	if (child == 0)
		under_test(operation);
	while (!load_acquire(&shared->victim_tid))
		usleep(200);
	pid_t thread = (pid_t)shared->victim_tid;
	if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) != 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		puts("ptrace is not permitted here");
		exit(77);
	}
	store_release(&shared->go, 1);
	int status;
	CHECK(waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	bool there = step_past(thread, n);
	store_release(&shared->go, 2);
	if (there) {
		CHECK_EQUAL(finished_within(DEADLINE_MS), OTHERS);
		for (unsigned i = 0; i < OTHERS; i++)
			CHECK_EQUAL(shared->done[i], operations_each);
		CHECK_EQUAL(shared->failures, 0);
		// A stopped thread costs samples in its own bucket at most.
		CHECK(shared->dropped <= OTHERS * operations_each / 8 + OTHERS * operations_each / 100);
		if (finished_within(0) < OTHERS) {
			fprintf(stderr, "%s: stopped after locked instruction %u, the others stand\n", operation->name, n);
			kill(child, SIGKILL);
		}
	}
	ptrace(PTRACE_CONT, thread, NULL, NULL); // to the second int3
	waitpid(thread, &status, __WALL);
	ptrace(PTRACE_DETACH, thread, NULL, NULL);
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return there;
}

int main(int argc, char **argv)
{
	operations_each = long_run(argc, argv) ? 1000000 : short_run(argc, argv) ? 10000 : 100000;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned o = 0; o < ARRAY_LEN(operations) && !checks_failed; o++) {
		unsigned n = 0;
		while (stop_after(&operations[o], n) && !checks_failed)
			n++;
		CHECK(checks_failed || n > operations[o].least_steps);
		printf("%s: stopped at %u places, %u others finished %lu operations each\n", operations[o].name, n, OTHERS,
		       operations_each);
	}
	return harness_end();
}
