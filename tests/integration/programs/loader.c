// loader.c -- allocates a given number of blocks, kept, and waits for a line on standard input
//
// usage: loader BLOCKS. Prints "ready", and "done" once it may end.
#include <stdio.h>
#include <stdlib.h>

static void *volatile kept;

__attribute__((noinline, noclone)) void keep(long i) { kept = malloc((size_t)(i % 1000)); }

int main(int argc, char **argv)
{
	long blocks = argc > 1 ? atol(argv[1]) : 1000;
	char line[10];
	for (long i = 0; i < blocks; i++)
		keep(i);
	puts("ready");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	puts("done");
	return 0;
}
