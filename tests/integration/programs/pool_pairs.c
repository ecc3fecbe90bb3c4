// pool_pairs.c -- COUNT blocks given out by a pool and freed to it
#include <stdlib.h>

#include "memleak.h"

int main(int argc, char **argv)
{
	static unsigned char block[64];
	unsigned pool = memleak_pool("pairs");
	for (long i = argc > 1 ? atol(argv[1]) : 0; i > 0; i--) {
		memleak_pool_alloc(pool, block, 40);
		memleak_pool_free(pool, block);
	}
	return 0;
}
