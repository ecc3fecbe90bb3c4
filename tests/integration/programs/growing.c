// growing.c -- a single-threaded program that loads libraries while it fills its memory
//
// argv[1…]: libraries. Before each it takes 20,000 blocks, and keeps them.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *kept[1 << 20];

int main(int count, char **words)
{
	size_t blocks = 0;
	for (int library = 1; library < count; library++) {
		for (int n = 0; n < 20000; n++)
			kept[blocks++] = malloc(100);
		void *handle = dlopen(words[library], RTLD_NOW);
		if (!handle || !dlsym(handle, "plug_make"))
			return 1;
	}
	printf("%zu\n", blocks);
	fflush(stdout);
	_Exit(kept[0] == NULL);
}
