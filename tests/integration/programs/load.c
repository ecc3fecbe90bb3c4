// load.c -- allocates and frees as fast as it can on some threads, from many places, until it is killed
//
// usage: load THREADS. Blocks are kept for a while, so that live samples come and go all the time. A block's size tells
// its place: low_N only asks for sizes that are N modulo 32, again() for 31. HELD blocks of each thread are never freed:
// "site keep_always COUNT BYTES" comes before "ready".
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SLOTS 4000
#define HELD 500
#define PLACES 32
static void *volatile kept;
static pthread_barrier_t all_hold;

#define FAMILY(n)                                                                                  \
	__attribute__((noinline, noclone)) void *low_##n(size_t bytes) { return kept = malloc(bytes / PLACES * PLACES + n); } \
	__attribute__((noinline, noclone)) void *high_##n(size_t bytes) { return kept = low_##n(bytes * 2); }
FAMILY(0) FAMILY(1) FAMILY(2) FAMILY(3) FAMILY(4) FAMILY(5) FAMILY(6) FAMILY(7)
static void *(*const makers[])(size_t) = {low_0,  low_1,  low_2,  low_3,  low_4,  low_5,  low_6,  low_7,
					  high_0, high_1, high_2, high_3, high_4, high_5, high_6, high_7};

__attribute__((noinline, noclone)) void *again(void *p, size_t bytes) { return kept = realloc(p, bytes / PLACES * PLACES + 31); }
__attribute__((noinline, noclone)) void *keep_always(size_t bytes) { return kept = malloc(bytes); }

__attribute__((noinline, noclone)) void *deeper(unsigned depth, unsigned which, size_t bytes)
{
	void *p = depth ? deeper(depth - 1, which, bytes) : makers[which % 16](bytes);
	__asm__ volatile("" : "+r"(p));
	return p;
}

static void *work(void *number)
{
	void **slots = calloc(SLOTS, sizeof(*slots));
	unsigned long long state = 88172645463325252ULL + (unsigned long long)(size_t)number * 7919;
	for (size_t i = 0; i < HELD; i++)
		keep_always(i);
	pthread_barrier_wait(&all_hold);
	if (!number) {
		puts("ready");
		fflush(stdout);
	}
	for (;;) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		void **slot = &slots[state % SLOTS];
		if (*slot && state >> 60 < 3) {
			*slot = again(*slot, state >> 40 & 2047);
		} else {
			free(*slot);
			*slot = state >> 60 & 1 ? deeper(state >> 32 & 7, (unsigned)(state >> 24), state >> 40 & 511) : NULL;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	pthread_barrier_init(&all_hold, NULL, (unsigned)threads);
	printf("site keep_always %d %d\n", threads * HELD, threads * (HELD * (HELD - 1) / 2));
	for (int i = 1; i < threads; i++)
		pthread_create(&thread, NULL, work, (void *)(size_t)i);
	work(NULL);
	return 0;
}
