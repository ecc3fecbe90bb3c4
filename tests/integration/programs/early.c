// early.c -- allocates before any constructor has run, in constructors, in destructors, and at exit
//
// Linked with -Wl,-z,lazy or now. Calls dlsym and dlerror, which allocate, from the first of them.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *first, *second;

static void before_everything(void)
{
	first = malloc(100);
	strcpy(first, "preinit");
	second = realloc(calloc(1, 10), 5000);
	dlsym(RTLD_NEXT, "no_such_symbol");
	strcpy(second, dlerror() ? "dlerror" : "no error");
	free(malloc(1000));
}
__attribute__((section(".preinit_array"), used)) static void (*entry)(void) = before_everything;

__attribute__((constructor(101))) static void constructed(void) { free(realloc(malloc(10), 100000)); }

__attribute__((destructor(101))) static void destroyed(void)
{
	char *p = malloc(100);
	strcpy(p, "destructor\n");
	fputs(p, stdout);
	free(p);
	free(first);
	fflush(stdout);
}

static void at_exit(void)
{
	char *p = strdup("atexit");
	puts(p);
	free(p);
}

int main(void)
{
	atexit(at_exit);
	puts(first);
	puts(second);
	free(second);
	void *(*found)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "malloc");
	free(found(100));
	void *library = dlopen("libm.so.6", RTLD_NOW);
	printf("%d %d\n", library != NULL, dlclose(library));
	return 0;
}
