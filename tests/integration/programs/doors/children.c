// children.c -- forked children in which one thread opens the recording, inside malloc, while others ask for something
//
// usage: children CORE ROUNDS
// CORE is the path of the library, or - when it is preloaded. In each round one child is forked for each of CASES: its
// threads allocate until their recording is open and beyond, and the main thread, at some moment meanwhile, stops tracing,
// starts it, polls, or forks. Prints "good N", the children in which all was as it must be.
#include "memleak.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "children.c:%d: %s; state %d, %s, %s\n", __LINE__, #condition, \
				api_state ? api_state() : -1, api_why ? api_why() : "",            \
				api_recording_path ? api_recording_path() : "");                   \
			_exit(3);                                                                  \
		}                                                                                  \
	} while (0)

enum { THREADS = 3, ENOUGH = 4000 }; // allocations; a recording is opened after 1,000 of them
enum state { IDLE, RECORDING, STOPPED, FORKED };

static __typeof__(memleak_start) *api_start;
static __typeof__(memleak_stop) *api_stop;
static __typeof__(memleak_poll) *api_poll;
static __typeof__(memleak_state) *api_state;
static __typeof__(memleak_why) *api_why;
static __typeof__(memleak_recording_path) *api_recording_path;

static volatile int go, asked;
static unsigned seed = 2463534242u;

static unsigned next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	return seed ^= seed << 5;
}

static void allocate(int count)
{
	for (int i = 0; i < count; i++) {
		void *volatile block = malloc(100);
		free(block);
	}
}

static void *allocating(void *unused)
{
	(void)unused;
	while (!go)
		;
	while (!asked)
		allocate(10);
	allocate(ENOUGH);
	return NULL;
}

// This process has one recording of its own, and it is the one in use.
static void check_own(int state)
{
	char mine[32], directory[256];
	snprintf(mine, sizeof(mine), "%d-", (int)getpid());
	const char *path = api_recording_path(), *name = strrchr(path, '/');
	CHECK(api_state() == state && name && strncmp(name + 1, mine, strlen(mine)) == 0);
	snprintf(directory, sizeof(directory), "%.*s", (int)(name - path), path);
	int count = 0;
	DIR *all = opendir(directory);
	CHECK(all);
	for (struct dirent *entry; (entry = readdir(all));)
		count += strncmp(entry->d_name, mine, strlen(mine)) == 0;
	closedir(all);
	CHECK(count == 1);
}

// ---- what is asked meanwhile -----------------------------------------------------------------------------

static void stop(void)
{
	api_stop();
	CHECK(api_state() == STOPPED);
}

static void start(void)
{
	CHECK(api_start(1, 1, 1, 1, 0, 64, 1, 1) >= 0);
	CHECK(api_state() == RECORDING);
}

static void poll_core(void)
{
	api_poll();
	CHECK(api_state() == RECORDING);
}

static void await(pid_t child)
{
	int status;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void fork_again(void)
{
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		allocate(ENOUGH);
		check_own(RECORDING);
		_exit(0);
	}
	await(child);
}

static const struct {
	void (*ask)(void);
	int end; // the state afterwards
} cases[] = {{stop, STOPPED}, {start, RECORDING}, {poll_core, RECORDING}, {fork_again, RECORDING}};
enum { CASES = sizeof(cases) / sizeof(cases[0]) };

static void child(unsigned which)
{
	pthread_t threads[THREADS];
	alarm(60);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, allocating, NULL) == 0);
	unsigned wait = next() % 400000;
	go = 1;
	for (volatile unsigned i = 0; i < wait; i++)
		;
	cases[which].ask();
	asked = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (cases[which].end == STOPPED)
		CHECK(api_state() == STOPPED);
	else
		check_own(cases[which].end);
	_exit(0);
}

static void *symbol(void *core, const char *name)
{
	void *found = dlsym(core, name);
	CHECK(found);
	return found;
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	void *core = strcmp(argv[1], "-") == 0 ? RTLD_DEFAULT : dlopen(argv[1], RTLD_NOW);
	CHECK(core || argv[1][0] == '-');
	api_start = (__typeof__(api_start))symbol(core, "memleak_start");
	api_stop = (__typeof__(api_stop))symbol(core, "memleak_stop");
	api_poll = (__typeof__(api_poll))symbol(core, "memleak_poll");
	api_state = (__typeof__(api_state))symbol(core, "memleak_state");
	api_why = (__typeof__(api_why))symbol(core, "memleak_why");
	api_recording_path = (__typeof__(api_recording_path))symbol(core, "memleak_recording_path");
	CHECK(api_start(16, 256, 256, 4096, 4 << 20, 64, 1, 1) >= 0);
	int rounds = atoi(argv[2]), good = 0;
	for (int i = 0; i < rounds * CASES; i++) {
		next();
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0)
			child((unsigned)i % CASES);
		await(pid);
		good++;
	}
	printf("good %d\n", good);
	return 0;
}
