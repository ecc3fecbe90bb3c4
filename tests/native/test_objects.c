// test_objects.c -- a walk over the loader's list, and forks meanwhile
#include "traced.h"

#include "clock.h"
#include "objects.h"

#include <dlfcn.h>

#ifndef DEADLINE_S
#define DEADLINE_S 20
#endif

static uint32_t walking, in_walk, walks;

static int take_time(struct dl_phdr_info *info, size_t bytes, void *count)
{
	(void)bytes;
	CHECK(info->dlpi_phdr != NULL);
	++*(int *)count;
	for (int i = 0; i < 2000; i++)
		__asm__ volatile("");
	return 0;
}

static void test_walk(void)
{
	int ours = 0, its = 0;
	CHECK(objects_try_each(take_time, &ours));
	CHECK_EQUAL(dl_iterate_phdr(take_time, &its), 0);
	CHECK(ours == its && its > 2);
	CHECK(objects_symbol("malloc") == (uintptr_t)dlsym(RTLD_DEFAULT, "malloc"));
	CHECK_EQUAL(objects_symbol("no_such_function_anywhere"), 0);
}

// ---- a handler of the program's -----------------------------------------------------------------------------

static uint32_t asked;
static uint64_t fastest_ns = UINT64_MAX;

// Who forks is not held back.
static void ask_the_loader(void)
{
	uint64_t began = clock_monotonic_precise_ns();
	CHECK(objects_symbol("free"));
	uint64_t took = clock_monotonic_precise_ns() - began, before = load_relaxed(&fastest_ns);
	if (took < before)
		store_relaxed(&fastest_ns, took);
	add_relaxed(&asked, 1);
}

// A handler of the program's that runs behind ours, for it was registered before.
static void (*behind_ours)(void) = ask_the_loader;
static void programs_handler(void)
{
	if (behind_ours)
		behind_ours();
}

// ---- forks -----------------------------------------------------------------------------------------------

static int first_only(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)info, (void)bytes, (void)context;
	store_relaxed(&in_walk, 1);
	usleep(500); // longer than a fork takes to begin
	return 1;
}

static void *walk(void *unused)
{
	(void)unused;
	while (load_relaxed(&walking)) {
		objects_try_each(first_only, NULL);
		add_relaxed(&walks, 1);
	}
	return NULL;
}

// Hangs if the lock came along.
static void grandchild_body(void) { CHECK(dlopen("libm.so.6", RTLD_NOW)); }

static void child_body(void)
{
	alarm(DEADLINE_S);
	CHECK(objects_symbol("malloc"));
	grandchild_body();
	in_child(grandchild_body);
}

static void test_forks_meanwhile(bool long_form)
{
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	store_relaxed(&walking, 1);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, walk, NULL) == 0);
	for (int i = 0; i < (long_form ? 20000 : 300) && !checks_failed; i++) {
		store_relaxed(&in_walk, 0);
		while (!load_relaxed(&in_walk)) // then somebody has been let in
			sched_yield();
		in_child(child_body);
	}
	store_relaxed(&walking, 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK(load_relaxed(&walks) > 0);
}

// Longer than a fork waits for one that may be waiting itself.
static int sleep_long(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)info, (void)bytes, (void)context;
	store_relaxed(&in_walk, 1);
	usleep(600000);
	return 1;
}

static void *walk_long(void *unused)
{
	CHECK(objects_try_each(sleep_long, NULL));
	return unused;
}

static void test_long_walk(void)
{
	pthread_t thread;
	store_relaxed(&in_walk, 0);
	CHECK(pthread_create(&thread, NULL, walk_long, NULL) == 0);
	while (!load_relaxed(&in_walk))
		sched_yield();
	behind_ours = NULL;
	in_child(child_body);
	behind_ours = ask_the_loader;
	pthread_join(thread, NULL);
}

// ---- the program has the lock when a fork begins, and lets go of it before the process forks ---------------------

static uint32_t lock_held, let_go, put_off;

static int hold_until_told(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)info, (void)bytes, (void)context;
	store_relaxed(&lock_held, 1);
	while (!load_relaxed(&let_go))
		usleep(100);
	return 1;
}

static void *hold_lock(void *unused) { return dl_iterate_phdr(hold_until_told, NULL), unused; }

static pid_t walker_tid;

static void *walk_once(void *unused)
{
	int seen = 0;
	store_release(&walker_tid, gettid());
	CHECK(!objects_try_each(take_time, &seen) && !seen);
	store_relaxed(&put_off, 1);
	return unused;
}

static void wait_until_it_sleeps(const pid_t *tid)
{
	for (char state = 'R'; state != 'S'; usleep(100)) {
		char path[64];
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)load_acquire(tid));
		FILE *stat = fopen(path, "r");
		if (stat && fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
			state = 'R';
		if (stat)
			fclose(stat);
	}
}

static void hand_over(void)
{
	store_relaxed(&let_go, 1);
	while (!load_relaxed(&put_off))
		usleep(100);
}

static void test_lock_comes_during_a_fork(void)
{
	pthread_t holder, walker;
	CHECK(pthread_create(&holder, NULL, hold_lock, NULL) == 0);
	while (!load_relaxed(&lock_held))
		sched_yield();
	CHECK(pthread_create(&walker, NULL, walk_once, NULL) == 0);
	wait_until_it_sleeps(&walker_tid);
	behind_ours = hand_over;
	in_child(child_body);
	behind_ours = ask_the_loader;
	pthread_join(holder, NULL);
	pthread_join(walker, NULL);
}

// ---- forks from several threads --------------------------------------------------------------------------------

static void *fork_now_and_then(void *unused)
{
	(void)unused;
	for (int i = 0; i < 20 && !checks_failed; i++)
		in_child(child_body);
	return NULL;
}

static void *fork_meanwhile(void *unused)
{
	int seen = 0;
	objects_before_fork();
	CHECK(!objects_try_each(take_time, &seen));
	objects_after_fork();
	CHECK(!objects_try_each(take_time, &seen));
	CHECK_EQUAL(seen, 0);
	return unused;
}

// Who began to fork last, or has forked since, has no more right to the lock than others.
static void test_one_forks_while_another_does(void)
{
	pthread_t thread;
	int seen = 0;
	objects_before_fork();
	CHECK(pthread_create(&thread, NULL, fork_meanwhile, NULL) == 0);
	pthread_join(thread, NULL);
	objects_after_fork();
	CHECK(objects_try_each(take_time, &seen) && seen);
}

static void test_several_forking(void)
{
	in_threads(4, fork_now_and_then);
	CHECK(load_relaxed(&asked) >= 4 * 20);
	CHECK(load_relaxed(&fastest_ns) < 50000000);
}

int main(int argc, char **argv)
{
	test_walk();
	pthread_atfork(programs_handler, NULL, NULL);
	pthread_atfork(objects_before_fork, objects_after_fork, NULL);
	test_one_forks_while_another_does();
	test_long_walk();
	test_lock_comes_during_a_fork();
	if (checks_failed)
		return harness_end(); // the rest would take minutes to say so again
	test_forks_meanwhile(long_run(argc, argv));
	test_several_forking();
	return harness_end();
}
