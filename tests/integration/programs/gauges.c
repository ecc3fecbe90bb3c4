// gauges.c -- holds a block of a given size for each unit of its business
//
//   gauges SIZE [aware]      reads "N" from standard input, holds N units from then on, says "N"
// Aware of memleak it sets its gauge "units" if the core is there; without, it knows nothing of it.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void **block;
static size_t held;

__attribute__((noinline, noclone)) void hold_one(size_t size) { block[held++] = malloc(size); }

int main(int argc, char **argv)
{
	size_t size = (size_t)atol(argv[1]), wanted;
	unsigned (*gauge)(const char *) = argc > 2 ? (unsigned (*)(const char *))dlsym(RTLD_DEFAULT, "memleak_gauge") : NULL;
	void (*set)(unsigned, long long) = argc > 2 ? (void (*)(unsigned, long long))dlsym(RTLD_DEFAULT, "memleak_gauge_set") : NULL;
	unsigned number = gauge ? gauge("units") : 0;
	block = calloc(1 << 20, sizeof(*block));
	while (scanf("%zu", &wanted) == 1) {
		while (held < wanted)
			hold_one(size);
		while (held > wanted)
			free(block[--held]);
		if (set)
			set(number, (long long)held);
		printf("%zu\n", held);
		fflush(stdout);
	}
	return 0;
}
