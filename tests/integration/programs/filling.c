// filling.c -- makes its recording grow: keeps every block, from thousands of places, until it is killed
//
// usage: filling THREADS LIBRARY… The first thread loads a library every few milliseconds, at which a recording makes
// room, and starts short-lived threads, so that every table grows. Says "ready" when all are at work.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEPTH 13 // 8,192 places
#define MOST_BLOCKS 2000000L // of all threads: nobody may come and kill it
static void *volatile kept;
static long blocks;

void *at(unsigned place, unsigned depth);
__attribute__((noinline, noclone)) void *left(unsigned place, unsigned depth)
{
	return kept = depth == DEPTH ? malloc(place % 100) : at(place / 2, depth + 1);
}
__attribute__((noinline, noclone)) void *right(unsigned place, unsigned depth)
{
	return kept = depth == DEPTH ? malloc(place % 100) : at(place / 2, depth + 1);
}
__attribute__((noinline, noclone)) void *at(unsigned place, unsigned depth)
{
	return kept = place % 2 ? left(place, depth) : right(place, depth);
}

static void *fill(void *number)
{
	unsigned long long state = 88172645463325252ULL + (unsigned long long)(size_t)number * 7919;
	while (__atomic_fetch_add(&blocks, 1, __ATOMIC_RELAXED) < MOST_BLOCKS) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		at((unsigned)(state >> 32), 1);
	}
	return NULL;
}

static void *briefly(void *unused)
{
	for (int i = 0; i < 4; i++)
		kept = malloc(10);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	for (int i = 1; i < atoi(argv[1]); i++)
		pthread_create(&thread, NULL, fill, (void *)(size_t)i);
	puts("ready");
	fflush(stdout);
	for (int library = 2;; library++) {
		if (library < argc && !dlsym(dlopen(argv[library], RTLD_NOW), "plug_make"))
			return 1;
		for (int i = 0; i < 3; i++)
			if (pthread_create(&thread, NULL, briefly, NULL) == 0)
				pthread_join(thread, NULL);
		usleep(2000);
	}
}
