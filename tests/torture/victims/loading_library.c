// loading_library.c -- what loading.c loads: allocates for others, and has functions that are chosen when it is loaded (IFUNC), one
// called by a symbol, one by a relocation without a symbol (IRELATIVE) that keeps an allocating function's address
//
// Compiled with -DINNER it is the second library.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef INNER
int inner_answer(void)
{
	void *block = malloc(100);
	free(block);
	return 42;
}
#else
char *plug_make(size_t bytes) { return memset(malloc(bytes < 300 ? 300 : bytes), 2, 300); }
char *plug_grow(char *block, size_t bytes) { return realloc(block, bytes); }
void plug_drop(char *block) { free(block); }

static int twice(int number)
{
	void *block = malloc((size_t)number);
	free(block);
	return 2 * number;
}
static void *(*keeper)(size_t) = malloc;

// Runs while the object is being relocated: nothing of others may be called here.
static int (*choose(void))(int) { return twice; }
int seen_by_all(int) __attribute__((ifunc("choose")));
static int seen_here(int) __attribute__((ifunc("choose")));

int plug_chosen(int number)
{
	int (*volatile by_address)(int) = seen_here;
	void *block = keeper(10);
	free(block);
	return seen_by_all(number) + seen_here(number) + by_address(number);
}

int plug_inner(const char *name)
{
	void *handle = dlopen(name, RTLD_NOW);
	if (!handle) {
		fprintf(stderr, "%s\n", dlerror());
		return -1;
	}
	int (*answer)(void) = (int (*)(void))dlsym(handle, "inner_answer");
	int found = answer ? answer() : -2;
	dlclose(handle);
	return found;
}
#endif
