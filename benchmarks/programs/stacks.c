// stacks.c -- holds blocks from 2,048 stacks, eleven frames of two calls each; prints its own mappings then
//
// usage: stacks BLOCKS     of each stack
#include <stdio.h>
#include <stdlib.h>

#define DEPTH 11

static long blocks;

static __attribute__((noinline)) void leaf(void)
{
	for (long i = 0; i < blocks; i++) {
		static void *volatile newest;
		void **block = malloc(64);
		if (block == NULL)
			abort();
		*block = newest;
		newest = block;
	}
}

static __attribute__((noinline)) void branch(int depth, unsigned path)
{
	volatile int left = depth;
	if (left == 0)
		leaf();
	else if (path >> (left - 1) & 1)
		branch(left - 1, path);
	else
		branch(left - 1, path);
	left = 0; // no tail call
}

int main(int argc, char **argv)
{
	char line[4096];
	blocks = argc > 1 ? atol(argv[1]) : 1;
	for (unsigned path = 0; path < 1U << DEPTH; path++)
		branch(DEPTH, path);
	FILE *maps = fopen("/proc/self/smaps", "r");
	while (maps && fgets(line, sizeof line, maps))
		fputs(line, stdout);
	return 0;
}
