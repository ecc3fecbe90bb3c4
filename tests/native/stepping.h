// stepping.h -- a victim thread left standing before and after each of its locked instructions, while others work
//
// The victim is traced (ptrace) through one operation, in a process of its own. Right before its Nth locked
// instruction it has read what that is about to change: others then change it first, and it loses the race. Right
// after, it has claimed what it has not yet filled or given back. Seven others must finish their operations either way.
// It is single-stepped once, to find those instructions, and sent to each of them by a breakpoint.
#ifndef STEPPING_H
#define STEPPING_H

#include "harness.h"

#include "atomics.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define OTHERS 7U
#ifndef DEADLINE_MS
#define DEADLINE_MS 60000
#endif

struct operation {
	const char *name;
	void (*prepare[2])(void);   // before there are other threads
	void (*run)(void);          // the victim's
	void (*race)(unsigned me);  // what each of the others does first
	unsigned least_steps;       // locked instructions it must at least have
};

static struct stepping { // between this process and the one under test
	uint32_t victim_tid, finished, go, failures;
	uint64_t operations, dropped, done[OTHERS];
} *shared;

static uint64_t operations_each = 25000;

// ---- in the process under test -------------------------------------------------------------------------

#define HOLD() __asm__ volatile("int3") // where single-stepping begins and ends

static const struct operation *stepped;

static void *victim(void *unused)
{
	store_release(&shared->victim_tid, (uint32_t)syscall(SYS_gettid));
	while (!load_acquire(&shared->go))
		usleep(200);
	HOLD();
	stepped->run();
	HOLD();
	return unused;
}

// What the others do, `turn` by turn; the number of samples that found no place.
static uint64_t other_turn(unsigned me, uint64_t turn, uint64_t *random, uint64_t *failures);

static void *other(void *number)
{
	unsigned me = (unsigned)(uintptr_t)number;
	uint64_t random = 77 + me, dropped = 0, failures = 0;
	while (!load_acquire(&shared->victim_tid) || load_acquire(&shared->go) < 2)
		usleep(200);
	if (stepped->race)
		stepped->race(me);
	for (uint64_t i = 0; i < shared->operations; i++) {
		dropped += other_turn(me, i, &random, &failures);
		store_relaxed(&shared->done[me], i + 1);
	}
	add_relaxed(&shared->dropped, dropped);
	add_relaxed(&shared->failures, (uint32_t)failures);
	add_relaxed(&shared->finished, 1);
	return NULL;
}

// Returns when all threads have ended.
static void run_threads(const struct operation *operation)
{
	pthread_t thread[OTHERS + 1];
	for (unsigned i = 0; i < 2 && operation->prepare[i]; i++)
		operation->prepare[i]();
	stepped = operation;
	pthread_create(&thread[OTHERS], NULL, victim, NULL);
	for (unsigned i = 0; i < OTHERS; i++)
		pthread_create(&thread[i], NULL, other, (void *)(uintptr_t)i);
	for (unsigned i = 0; i <= OTHERS; i++)
		pthread_join(thread[i], NULL);
}

// ---- the stepping --------------------------------------------------------------------------------------

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

#define LOCKS_MOST 512U
static unsigned char *locks[LOCKS_MOST]; // in the order in which the operation comes to them
static unsigned locks_found;

static bool continue_to_stop(pid_t thread, int request)
{
	int status;
	return ptrace(request, thread, NULL, NULL) == 0 && waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status);
}

static struct user_regs_struct registers_of(pid_t thread)
{
	struct user_regs_struct registers = {0};
	ptrace(PTRACE_GETREGS, thread, NULL, &registers);
	return registers;
}

// Single-steps to the end of the operation.
static void find_locks(pid_t thread)
{
	locks_found = 0;
	unsigned char *at;
	while ((at = (unsigned char *)(uintptr_t)registers_of(thread).rip) && *at != 0xCC) { // HOLD()
		if (is_locked(at) && locks_found < LOCKS_MOST)
			locks[locks_found++] = at;
		if (!continue_to_stop(thread, PTRACE_SINGLESTEP))
			break;
	}
	CHECK(locks_found < LOCKS_MOST);
}

// Lets the victim run to an instruction, which it must not stand at. False: it came to the end instead.
static bool run_to(pid_t thread, unsigned char *at)
{
	long word = ptrace(PTRACE_PEEKTEXT, thread, at, NULL);
	ptrace(PTRACE_POKETEXT, thread, at, (void *)((word & ~0xFFL) | 0xCC));
	bool stopped = continue_to_stop(thread, PTRACE_CONT);
	struct user_regs_struct registers = registers_of(thread);
	ptrace(PTRACE_POKETEXT, thread, at, (void *)word);
	if (!stopped || registers.rip != (uintptr_t)at + 1)
		return false;
	registers.rip--;
	return ptrace(PTRACE_SETREGS, thread, NULL, &registers) == 0;
}

// To the `place`: 2 N is right after the Nth locked instruction (0: the beginning), 2 N + 1 right before the one after it.
static bool send_to(pid_t thread, unsigned place)
{
	if (place == 0)
		return true;
	unsigned which = (place - 1) / 2;
	for (unsigned i = 0; i <= which; i++) {
		bool standing = registers_of(thread).rip == (uintptr_t)locks[i];
		if (!standing && locks[i] == locks[which] && !run_to(thread, locks[i]))
			return false;
		if (locks[i] == locks[which] && (i < which || place % 2 == 0) && !continue_to_stop(thread, PTRACE_SINGLESTEP))
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

#define NO_PLACE UINT_MAX // find the places, stop at none

static void stop_at(const struct operation *operation, unsigned place, void (*under_test)(const struct operation *))
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
	if (place == NO_PLACE)
		find_locks(thread);
	else
		CHECK(send_to(thread, place));
	store_release(&shared->go, 2);
	if (place != NO_PLACE) {
		CHECK_EQUAL(finished_within(DEADLINE_MS), OTHERS);
		for (unsigned i = 0; i < OTHERS; i++)
			CHECK_EQUAL(shared->done[i], operations_each);
		CHECK_EQUAL(shared->failures, 0);
		// A stopped thread costs samples in its own bucket at most.
		CHECK(shared->dropped <= OTHERS * operations_each / 8 + OTHERS * operations_each / 100);
		if (finished_within(0) < OTHERS) {
			fprintf(stderr, "%s: stopped at place %u, the others stand\n", operation->name, place);
			kill(child, SIGKILL);
		}
	}
	ptrace(PTRACE_CONT, thread, NULL, NULL); // to the second int3
	waitpid(thread, &status, __WALL);
	ptrace(PTRACE_DETACH, thread, NULL, NULL);
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	if (checks_failed)
		fprintf(stderr, "%s: stopped at place %d of %u\n", operation->name, (int)place, 2 * locks_found + 1);
}

static inline void step_through(const struct operation *operations, unsigned count, void (*under_test)(const struct operation *))
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned o = 0; o < count && !checks_failed; o++) {
		stop_at(&operations[o], NO_PLACE, under_test);
		CHECK(locks_found >= operations[o].least_steps);
		for (unsigned place = 0; place <= 2 * locks_found && !checks_failed; place++)
			stop_at(&operations[o], place, under_test);
		printf("%s: stopped at %u places, %u others finished %lu operations each\n", operations[o].name,
		       2 * locks_found + 1, OTHERS, operations_each);
	}
}

#endif
