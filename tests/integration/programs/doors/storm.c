// storm.c -- threads allocate, load and unload plug-ins while tracing is switched on and off, or is on all the time
//
// usage: storm CORE toggle|steady TOGGLES ALLOCATING LOADING ROUNDS PLUG…
// CORE is the path of the library, or - when it is preloaded. ALLOCATING threads allocate and LOADING threads load,
// use and unload a PLUG, ROUNDS times at least. They free whatever they allocate.
// toggle: meanwhile tracing is started and stopped TOGGLES times. A further recording, in full mode, begins while the
// threads are at work and ends when they are gone; in another, keep_last() leaves blocks behind and each plug-in is used
// once more. Prints "growth BYTES DESCRIPTORS" of the second half of the toggling if there are no threads.
// steady: one recording, in full mode, begins before the threads and ends after them, and after keep_last() and each
// plug-in once more.
// Prints "storm PATH", the recording that saw the threads to their end, "recording PATH", the last one (the same, if steady),
// "site NAME COUNT BYTES", and "made COUNT" and "worked COUNT": the calls that plug_make() and plug_work() made in the
// last recording, and the times they asked for memory.
#include "memleak.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "storm.c:%d: %s; %s\n", __LINE__, #condition, api_why ? api_why() : ""); \
			exit(3);                                                                   \
		}                                                                                  \
	} while (0)

static __typeof__(memleak_start) *api_start;
static __typeof__(memleak_stop) *api_stop;
static __typeof__(memleak_configure) *api_configure;
static __typeof__(memleak_poll) *api_poll;
static __typeof__(memleak_why) *api_why;
static __typeof__(memleak_state) *api_state;
static __typeof__(memleak_recording_path) *api_recording_path;

static char **plugs;
static int plug_count, rounds;
static volatile int finished, going_on = 1;
static atomic_int loads; // by all threads
#define WORK_EACH 40     // a multiple of 4: plug_work() asks for memory so many times

static unsigned next(unsigned *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static void *allocating(void *number)
{
	static const struct timespec pause = {.tv_nsec = 200000}; // so that the others get on
	unsigned state = 77777u + (unsigned)(size_t)number * 7919u;
	void *held[256] = {0};
	for (unsigned i = 1; !finished; i++) {
		unsigned r = next(&state), k = r % 256;
		if (i % 4096 == 0)
			nanosleep(&pause, NULL);
		if (r >> 30 == 0) {
			held[k] = realloc(held[k], 1 + r % 700);
		} else {
			free(held[k]);
			held[k] = r >> 30 == 1 ? calloc(r % 13, 60) : malloc(r % 2000);
		}
	}
	for (int k = 0; k < 256; k++)
		free(held[k]);
	return NULL;
}

static void *loading(void *number)
{
	unsigned state = 99991u + (unsigned)(size_t)number * 104729u;
	void *late[64] = {0};
	for (int i = 0; i < rounds || going_on; i++) {
		unsigned r = next(&state);
		void *plug = dlopen(plugs[r % plug_count], r & 1024 ? RTLD_NOW : RTLD_LAZY);
		CHECK(plug);
		void *(*make)(size_t) = (void *(*)(size_t))dlsym(plug, "plug_make");
		void (*work)(int) = (void (*)(int))dlsym(plug, "plug_work");
		CHECK(make && work);
		free(late[i % 64]); // what a plug-in made that has gone meanwhile
		late[i % 64] = make(r % 1000);
		work(WORK_EACH);
		CHECK(dlclose(plug) == 0);
		loads++;
	}
	for (int i = 0; i < 64; i++)
		free(late[i]);
	return NULL;
}

static long address_space(void)
{
	long kib = -1;
	char line[200];
	FILE *file = fopen("/proc/self/status", "r");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "VmSize: %ld", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib * 1024;
}

static int descriptors(void)
{
	int count = 0;
	DIR *directory = opendir("/proc/self/fd");
	while (directory && readdir(directory))
		count++;
	if (directory)
		closedir(directory);
	return count;
}

static void toggle(int i)
{
	CHECK(api_start(i % 2 ? 1 : 16, i % 2 ? 1 : 256, 256, 4096, 4 << 20, 64, 1, 1) == 0);
	CHECK(api_state() == 1 && api_start(1, 1, 1, 1, 0, 64, 1, 1) == 1);
	if (i % 3 == 0)
		CHECK(api_configure(1, 1, 1, 1, 0) == 0);
	if (i % 5 == 0)
		api_poll();
	CHECK(api_stop() == 1 && api_stop() == 0 && api_state() == 2);
}

static void *symbol(void *core, const char *name)
{
	void *found = dlsym(core, name);
	CHECK(found);
	return found;
}

static void find_core(const char *path)
{
	void *core = strcmp(path, "-") == 0 ? RTLD_DEFAULT : dlopen(path, RTLD_NOW);
	CHECK(core || path[0] == '-');
	api_why = (__typeof__(api_why))symbol(core, "memleak_why");
	api_start = (__typeof__(api_start))symbol(core, "memleak_start");
	api_stop = (__typeof__(api_stop))symbol(core, "memleak_stop");
	api_configure = (__typeof__(api_configure))symbol(core, "memleak_configure");
	api_poll = (__typeof__(api_poll))symbol(core, "memleak_poll");
	api_state = (__typeof__(api_state))symbol(core, "memleak_state");
	api_recording_path = (__typeof__(api_recording_path))symbol(core, "memleak_recording_path");
}

static void start_in_full(void) { CHECK(api_start(1, 1, 1, 1, 0, 64, 1, 1) == 0); }

// The loaders get so much further.
static void wait_for_loads(int more)
{
	static const struct timespec pause = {.tv_nsec = 1000000};
	for (int until = loads + more; loads < until;)
		nanosleep(&pause, NULL);
}

static void *volatile last_kept;
__attribute__((noinline, noclone)) void keep_last(size_t bytes) { last_kept = malloc(bytes); }

static void use_each_plug(void)
{
	for (int i = 0; i < plug_count; i++) {
		void *plug = dlopen(plugs[i], RTLD_LAZY);
		CHECK(plug);
		api_poll(); // its slots are seen from here on
		free(((void *(*)(size_t))symbol(plug, "plug_make"))(300));
		((void (*)(int))symbol(plug, "plug_work"))(WORK_EACH);
		CHECK(dlclose(plug) == 0);
	}
}

int main(int argc, char **argv)
{
	CHECK(argc > 7);
	find_core(argv[1]);
	int steady = strcmp(argv[2], "steady") == 0;
	int toggles = atoi(argv[3]), allocating_count = atoi(argv[4]), loading_count = atoi(argv[5]);
	rounds = atoi(argv[6]), plugs = argv + 7, plug_count = argc - 7;
	pthread_t threads[64];
	int running = 0;
	api_stop(); // preloaded, it may be recording
	if (steady)
		start_in_full();
	for (int i = 0; i < allocating_count; i++)
		CHECK(pthread_create(&threads[running++], NULL, allocating, (void *)(size_t)i) == 0);
	for (int i = 0; i < loading_count; i++)
		CHECK(pthread_create(&threads[running++], NULL, loading, (void *)(size_t)i) == 0);
	long space = 0;
	int open = 0;
	for (int i = 0; i < toggles; i++) {
		if (i == toggles / 2)
			space = address_space(), open = descriptors();
		toggle(i);
	}
	if (running == 0) // with threads beside, stacks and files come and go
		printf("growth %ld %d\n", address_space() - space, descriptors() - open);
	if (!steady) {
		start_in_full();
		wait_for_loads(25 * loading_count);
	}
	going_on = 0;
	for (int i = allocating_count; i < running; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	finished = 1;
	for (int i = 0; i < allocating_count; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);

	if (!steady) {
		CHECK(api_stop() == 1);
		printf("storm %s\n", api_recording_path());
		start_in_full();
	}
	for (int i = 0; i < 500; i++)
		keep_last(100);
	use_each_plug();
	CHECK(api_stop() == 1);
	if (steady)
		printf("storm %s\n", api_recording_path());
	int used = plug_count + (steady ? loads : 0);
	printf("recording %s\nsite keep_last 500 50000\nmade %d\nworked %d\n", api_recording_path(), used, used * WORK_EACH);
	fflush(stdout);
	return 0;
}
