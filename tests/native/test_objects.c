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
	CHECK_EQUAL(objects_each(take_time, &ours), dl_iterate_phdr(take_time, &its));
	CHECK(ours == its && its > 2);
	CHECK(objects_symbol("malloc") == (uintptr_t)dlsym(RTLD_DEFAULT, "malloc"));
	CHECK_EQUAL(objects_symbol("no_such_function_anywhere"), 0);
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
		objects_each(first_only, NULL);
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

// ---- forks from several threads, and a handler of the program's that walks -----------------------------------

static void *fork_now_and_then(void *unused)
{
	(void)unused;
	for (int i = 0; i < 20 && !checks_failed; i++)
		in_child(child_body);
	return NULL;
}

static uint32_t asked;
static uint64_t fastest_ns = UINT64_MAX;

// A handler of the program's that runs behind ours, for it was registered before: who forks is not held back.
static void ask_the_loader(void)
{
	uint64_t began = clock_monotonic_precise_ns();
	CHECK(objects_symbol("free"));
	uint64_t took = clock_monotonic_precise_ns() - began, before = load_relaxed(&fastest_ns);
	if (took < before)
		store_relaxed(&fastest_ns, took);
	add_relaxed(&asked, 1);
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
	pthread_atfork(ask_the_loader, NULL, NULL);
	pthread_atfork(objects_before_fork, objects_after_fork, NULL);
	test_forks_meanwhile(long_run(argc, argv));
	test_several_forking();
	return harness_end();
}
