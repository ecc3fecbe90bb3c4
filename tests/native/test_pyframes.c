// test_pyframes.c -- whose frames are read: of the main interpreter, and of no thread whose state may be freed meanwhile
//
// nativebuild: flags -rdynamic
#include "fake_python.h"

#include "boot.h"
#include "pyframes.h"
#include "stats.h"

#include <signal.h>
#include <sys/mman.h>
#include <time.h>

static uint64_t code[64], inner[64];
static uint64_t *outer; // a frame whose page may be made unreadable: who walks stops there

static unsigned walked(void)
{
	uint64_t frames[64], hash;
	struct pylabel label;
	bool truncated;
	unsigned n = pyframes_walk(frames, 64, &hash, &truncated, &label);
	CHECK((n == 0) == (hash == 0) && !truncated);
	return n;
}

static uint64_t *begin_thread(unsigned interpreter)
{
	fake_own_state = fake_state(interpreter);
	fake_own_state[fake_layout()->thread_frame / 8] = (uintptr_t)inner;
	return fake_own_state;
}

static uint64_t counted(void) { return stats_counters[MLF_COUNTER_python_subinterpreter]; }
static void set_runtime(unsigned offset, const void *value) { store_seq_cst(&WORD(_PyRuntime, offset), (uintptr_t)value); }

// ---- sub-interpreters --------------------------------------------------------------------------------------

static void test_sub_interpreters(void)
{
	const struct pylayout *l = fake_layout();
	uint64_t *state = begin_thread(0);
	CHECK_EQUAL(walked(), 2);
	fake_holder = state;
	CHECK_EQUAL(walked(), 2);
	// There is another one: the slot is of use only to who has the GIL.
	set_runtime(l->runtime_interpreters, fake_interpreters[1]);
	CHECK_EQUAL(walked(), 2);
	CHECK_EQUAL(counted(), 0);
	fake_holder = fake_state(1);
	CHECK_EQUAL(walked(), 0);
	CHECK_EQUAL(counted(), 1);
	// A thread that was made in the other one.
	fake_holder = begin_thread(1);
	CHECK_EQUAL(walked(), 0);
	CHECK_EQUAL(counted(), 2);
	CHECK(pyframes_thread() == 0);
	CHECK_EQUAL(counted(), 2); // no sample
	set_runtime(l->runtime_interpreters, fake_interpreters[0]);
	fake_holder = NULL;
	fake_own_state = NULL;
	CHECK_EQUAL(walked(), 0);
	CHECK_EQUAL(counted(), 2);
}

// ---- the end of the interpreter ----------------------------------------------------------------------------

static uint32_t stopped, go, seen;

static void stop_here(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	if (round_down((uintptr_t)info->si_addr, PAGE_BYTES) != (uintptr_t)outer)
		abort();
	store_seq_cst(&stopped, 1);
	while (!load_seq_cst(&go))
		usleep(100);
	mprotect(outer, PAGE_BYTES, PROT_READ | PROT_WRITE);
}

// Walks, and is stopped half way.
static void *walk(void *unused)
{
	begin_thread(0);
	store_seq_cst(&seen, walked());
	return unused;
}

static void *let_go(void *unused)
{
	usleep(20000);
	store_seq_cst(&go, 1);
	return unused;
}

static pthread_t begin_walk(void)
{
	pthread_t thread;
	stopped = go = seen = 0;
	mprotect(outer, PAGE_BYTES, PROT_NONE);
	pthread_create(&thread, NULL, walk, NULL);
	while (!load_seq_cst(&stopped))
		usleep(100);
	return thread;
}

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// Does `wait` come back only when the walk is over? On a machine that does nothing for a while it gives up: asked again.
static void check_waits(void (*wait)(void), unsigned frames)
{
	bool waited = false, in_time = false;
	for (int attempt = 0; attempt < 20 && !in_time; attempt++) {
		pthread_t walker = begin_walk(), other;
		double began = now_s();
		pthread_create(&other, NULL, let_go, NULL);
		wait();
		waited = load_seq_cst(&go);
		in_time = now_s() - began < 0.1;
		pthread_join(other, NULL);
		pthread_join(walker, NULL);
		CHECK_EQUAL(seen, frames);
		pyframes_note_end(0);
		set_runtime(fake_layout()->runtime_finalizing, NULL);
	}
	CHECK(waited && in_time);
}

static void end_by_me(void) { pyframes_note_end((uintptr_t)fake_own_state); }

static void test_end_waits_for_who_walks(void)
{
	begin_thread(0);
	check_waits(end_by_me, 2);
}

static void test_who_is_walked_at_the_end(void)
{
	uint64_t *ender = begin_thread(0);
	pyframes_note_end((uintptr_t)ender);
	CHECK_EQUAL(walked(), 2);
	uint64_t *other = begin_thread(0);
	CHECK_EQUAL(walked(), 0);
	fake_holder = other; // then nobody ends anything
	CHECK_EQUAL(walked(), 2);
	fake_holder = NULL;
	pyframes_note_end(0);
	CHECK_EQUAL(walked(), 2);
	set_runtime(fake_layout()->runtime_finalizing, ender);
	CHECK_EQUAL(walked(), 0);
	fake_own_state = ender;
	CHECK_EQUAL(walked(), 2);
	set_runtime(fake_layout()->runtime_finalizing, NULL);
}

static void unmap_frames(void)
{
	set_runtime(fake_layout()->runtime_finalizing, fake_own_state);
	pyframes_await_readers();
}

// What was read while states were freed may be anything: it is dropped. Who unmaps frames waits for those that are there.
static void test_ended_meanwhile(void)
{
	begin_thread(0);
	check_waits(unmap_frames, 0);
	// Nobody is waited for while the interpreter goes on: threads end all the time.
	pthread_t walker = begin_walk();
	pyframes_await_readers(); // else it would give up, and this test would not notice: nothing lets go of that thread
	store_seq_cst(&go, 1);
	pthread_join(walker, NULL);
	CHECK_EQUAL(seen, 2);
}

int main(void)
{
	boot();
	fake_begin();
	open_private(4U << 20);
	CHECK_EQUAL(pyframes_attach(), MLF_PYTHON_FRAMES);
	outer = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fake_code(code, "file.py", "function", 1);
	fake_frame(outer, (uintptr_t)code, 0);
	fake_frame(inner, (uintptr_t)code, (uintptr_t)outer);
	struct sigaction action = {.sa_sigaction = stop_here, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &action, NULL);
	test_sub_interpreters();
	test_end_waits_for_who_walks();
	test_who_is_walked_at_the_end();
	test_ended_meanwhile();
	return harness_end();
}
