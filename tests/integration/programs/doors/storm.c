// storm.c -- tracing is switched on and off while threads allocate, load and unload plug-ins
//
// usage: storm CORE TOGGLES ALLOCATING LOADING ROUNDS PLUG…
// CORE is the path of the library, or - when it is preloaded. TOGGLES times tracing is started and stopped;
// meanwhile ALLOCATING threads allocate and LOADING threads load, use and unload a PLUG, ROUNDS times at least.
// Then everything is freed, and in a last recording, in full mode, keep_last() leaves blocks behind and each
// plug-in is used once more. Prints "growth BYTES DESCRIPTORS" of the second half of the storm,
// "recording PATH", "site NAME COUNT BYTES" and "made COUNT", the plug_make() calls of the last recording.
#include "memleak.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
static volatile int finished, toggling = 1;

static unsigned next(unsigned *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static void *allocating(void *number)
{
	unsigned state = 77777u + (unsigned)(size_t)number * 7919u;
	void *held[256] = {0};
	while (!finished) {
		unsigned r = next(&state), k = r % 256;
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
	for (int i = 0; i < rounds || toggling; i++) {
		unsigned r = next(&state);
		void *plug = dlopen(plugs[r % plug_count], r & 1024 ? RTLD_NOW : RTLD_LAZY);
		CHECK(plug);
		void *(*make)(size_t) = (void *(*)(size_t))dlsym(plug, "plug_make");
		void (*work)(int) = (void (*)(int))dlsym(plug, "plug_work");
		CHECK(make && work);
		free(late[i % 64]); // what a plug-in made that has gone meanwhile
		late[i % 64] = make(r % 1000);
		work(40);
		CHECK(dlclose(plug) == 0);
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
	CHECK(api_start(i % 2 ? 1 : 16, i % 2 ? 1 : 256, 256, 4096, 4 << 20, 64, 1) == 0);
	CHECK(api_state() == 1 && api_start(1, 1, 1, 1, 0, 64, 1) == 1);
	if (i % 3 == 0)
		CHECK(api_configure(1, 1, 1, 1, 0) == 0);
	if (i % 5 == 0)
		api_poll();
	CHECK(api_stop() == 1 && api_stop() == 0 && api_state() == 2);
}

static void *volatile last_kept;
__attribute__((noinline, noclone)) void keep_last(size_t bytes) { last_kept = malloc(bytes); }

static void *symbol(void *core, const char *name)
{
	void *found = dlsym(core, name);
	CHECK(found);
	return found;
}

int main(int argc, char **argv)
{
	CHECK(argc > 6);
	void *core = strcmp(argv[1], "-") == 0 ? RTLD_DEFAULT : dlopen(argv[1], RTLD_NOW);
	CHECK(core || argv[1][0] == '-');
	api_why = (__typeof__(api_why))symbol(core, "memleak_why");
	api_start = (__typeof__(api_start))symbol(core, "memleak_start");
	api_stop = (__typeof__(api_stop))symbol(core, "memleak_stop");
	api_configure = (__typeof__(api_configure))symbol(core, "memleak_configure");
	api_poll = (__typeof__(api_poll))symbol(core, "memleak_poll");
	api_state = (__typeof__(api_state))symbol(core, "memleak_state");
	api_recording_path = (__typeof__(api_recording_path))symbol(core, "memleak_recording_path");

	int toggles = atoi(argv[2]), allocating_count = atoi(argv[3]), loading_count = atoi(argv[4]);
	rounds = atoi(argv[5]), plugs = argv + 6, plug_count = argc - 6;
	pthread_t threads[64];
	int running = 0;
	api_stop(); // preloaded, it may be recording
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
	toggling = 0;
	long space_after = address_space();
	int open_after = descriptors();
	for (int i = allocating_count; i < running; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	finished = 1;
	for (int i = 0; i < allocating_count; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	if (running == 0) // with threads beside, stacks and files come and go
		printf("growth %ld %d\n", space_after - space, open_after - open);

	CHECK(api_start(1, 1, 1, 1, 0, 64, 1) == 0);
	for (int i = 0; i < 500; i++)
		keep_last(100);
	for (int i = 0; i < plug_count; i++) {
		void *plug = dlopen(plugs[i], RTLD_LAZY);
		CHECK(plug);
		api_poll(); // its slots are seen from here on
		free(((void *(*)(size_t))symbol(plug, "plug_make"))(300));
		((void (*)(int))symbol(plug, "plug_work"))(100);
		CHECK(dlclose(plug) == 0);
	}
	CHECK(api_stop() == 1);
	printf("recording %s\nsite keep_last 500 50000\nmade %d\n", api_recording_path(), plug_count);
	fflush(stdout);
	return 0;
}
