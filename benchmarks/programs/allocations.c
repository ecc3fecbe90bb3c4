// allocations.c -- one pattern of allocations, over and over
//
// usage: allocations pair|threads|deep|wide|live COUNT
//
// pair:    malloc and free of 64 bytes. threads: the same in two threads, COUNT each.
// deep:    the same, 30 frames down.
// wide:    65,536 blocks of 16 to 1,039 bytes; a random one is freed and another allocated in its place.
// live:    COUNT blocks of 16 bytes, all alive at the end; then all are freed.
//
// The time of one operation goes to standard error.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WIDE 65536

static long count;

static __attribute__((noinline)) void pairs(void)
{
	void *volatile p;
	for (long i = 0; i < count; i++) {
		p = malloc(64);
		free(p);
	}
}

static __attribute__((noinline)) void deep(int frames)
{
	volatile int left = frames;
	if (left > 1)
		deep(left - 1);
	else
		pairs();
	left = 0; // no tail call
}

static void *thread_main(void *unused)
{
	pairs();
	return unused;
}

static void threads(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, thread_main, NULL) != 0)
		abort();
	pairs();
	pthread_join(thread, NULL);
}

static void wide(void)
{
	static void *blocks[WIDE];
	uint32_t random = 1;
	for (long i = 0; i < count; i++) {
		random = random * 1664525 + 1013904223;
		unsigned which = random >> 16;
		free(blocks[which]);
		blocks[which] = malloc(16 + (random & 1023));
		*(char *)blocks[which] = 1;
	}
	for (unsigned which = 0; which < WIDE; which++)
		free(blocks[which]);
}

static void live(void)
{
	struct block {
		struct block *next;
		long number;
	} *newest = NULL, *older;
	for (long i = 0; i < count; i++) {
		struct block *block = malloc(sizeof *block);
		if (block == NULL)
			abort();
		*block = (struct block){newest, i};
		newest = block;
	}
	for (; newest != NULL; newest = older) {
		older = newest->next;
		free(newest);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	count = atol(argv[2]);
	struct timespec began, ended;
	clock_gettime(CLOCK_MONOTONIC, &began);
	if (strcmp(argv[1], "pair") == 0)
		pairs();
	else if (strcmp(argv[1], "threads") == 0)
		threads();
	else if (strcmp(argv[1], "deep") == 0)
		deep(30);
	else if (strcmp(argv[1], "wide") == 0)
		wide();
	else if (strcmp(argv[1], "live") == 0)
		live();
	else
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &ended);
	fprintf(stderr, "ns_per_operation %.3f\n",
	        ((ended.tv_sec - began.tv_sec) * 1e9 + (ended.tv_nsec - began.tv_nsec)) / (double)(count > 0 ? count : 1));
	printf("%s %ld\n", argv[1], count);
	return 0;
}
