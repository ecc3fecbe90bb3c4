// unloading.c -- a program that opens libpython, runs an interpreter, ends it, closes the library and goes on, twice
//
// usage: unloading PATH_OF_LIBPYTHON
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *volatile sink;

static void *find(void *library, const char *name)
{
	void *found = dlsym(library, name);
	if (!found) {
		fprintf(stderr, "no %s\n", name);
		exit(2);
	}
	return found;
}

static void run(const char *path)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		exit(2);
	}
	void (*begin)(void) = (void (*)(void))find(library, "Py_Initialize");
	int (*script)(const char *) = (int (*)(const char *))find(library, "PyRun_SimpleString");
	int (*end)(void) = (int (*)(void))find(library, "Py_FinalizeEx");
	begin();
	int failed = script("def keep(n):\n    return [bytearray(1000) for i in range(n)]\nkept = keep(50)\n");
	printf("ran %d", failed);
	printf(", ended %d", end());
	printf(", closed %d\n", dlclose(library));
	for (int i = 0; i < 3000; i++)
		free(sink = malloc(10 + i));
}

int main(int argc, char **argv)
{
	for (int i = 0; argc == 2 && i < 2; i++)
		run(argv[1]);
	puts("end");
	return 3;
}
