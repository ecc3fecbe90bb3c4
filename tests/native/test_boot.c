// test_boot.c -- many threads may be the first, and a process may fork while one of them is
#include "traced.h"

#include "allocator.h"
#include "modules.h"
#include "objects.h"
#include "unwind_thread.h"

#include <sys/syscall.h>

enum { THREADS = 8 };

static uint32_t met, first;

// Nobody returns before everything is known.
static void check_booted(void)
{
	boot();
	unsigned id = modules_find((uintptr_t)&check_booted);
	CHECK(id != 0 && id == modules_find((uintptr_t)&boot));
	CHECK(modules_find((uintptr_t)real.malloc) != 0);
	CHECK_EQUAL(unwind_thread_tid(), syscall(SYS_gettid));
}

static void *boot_with_others(void *number)
{
	(void)number;
	meet(&met, THREADS, 1);
	check_booted();
	return NULL;
}

static void first_in_many_threads(void) { in_threads(THREADS, boot_with_others); }

// ---- forked meanwhile ------------------------------------------------------------------------------------

static void *boot_in_thread(void *unused)
{
	(void)unused;
	store_relaxed(&first, 1);
	boot();
	return NULL;
}

static void forked_meanwhile(void)
{
	static uint64_t state;
	state = (uint64_t)getpid() * MLF_CHECK_1 | 1;
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, boot_in_thread, NULL) == 0);
	while (!load_relaxed(&first))
		__asm__ volatile("pause");
	for (uint64_t wait = random_below(&state, 20000); wait; wait--)
		__asm__ volatile("");
	in_child(check_booted);
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	pthread_atfork(objects_before_fork, objects_after_fork, NULL);
	// Each in a process in which nothing has been done yet.
	for (int i = 0; i < (long_run(argc, argv) ? 5000 : 200); i++) {
		in_child(first_in_many_threads);
		in_child(forked_meanwhile);
	}
	return harness_end();
}
