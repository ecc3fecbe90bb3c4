// hook_fastpath.c -- malloc + free pairs, the allocator's own fast path
//
// usage: hook_fastpath PAIRS
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
	long pairs = argc > 1 ? atol(argv[1]) : 10000000;
	void *volatile p;
	struct timespec began, ended;
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (long i = 0; i < pairs; i++) {
		p = malloc(64);
		free(p);
	}
	clock_gettime(CLOCK_MONOTONIC, &ended);
	printf("%.3f\n", ((ended.tv_sec - began.tv_sec) * 1e9 + (ended.tv_nsec - began.tv_nsec)) / (double)pairs);
	return 0;
}
