// load.c -- allocates and frees as fast as it can on some threads, from many places, until it is killed
//
// usage: load THREADS. Blocks are kept for a while, so that live samples come and go all the time.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SLOTS 4000
static void *volatile kept;

#define FAMILY(n)                                                                                  \
	__attribute__((noinline, noclone)) void *low_##n(size_t bytes) { return kept = malloc(bytes + n); } \
	__attribute__((noinline, noclone)) void *high_##n(size_t bytes) { return kept = low_##n(bytes * 2); }
FAMILY(0) FAMILY(1) FAMILY(2) FAMILY(3) FAMILY(4) FAMILY(5) FAMILY(6) FAMILY(7)
static void *(*const makers[])(size_t) = {low_0,  low_1,  low_2,  low_3,  low_4,  low_5,  low_6,  low_7,
					  high_0, high_1, high_2, high_3, high_4, high_5, high_6, high_7};

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
	for (;;) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		void **slot = &slots[state % SLOTS];
		if (*slot && state >> 60 < 3) {
			*slot = realloc(*slot, state >> 40 & 2047);
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
	for (int i = 1; i < (argc > 1 ? atoi(argv[1]) : 1); i++)
		pthread_create(&thread, NULL, work, (void *)(size_t)i);
	puts("ready");
	fflush(stdout);
	work(NULL);
	return 0;
}
