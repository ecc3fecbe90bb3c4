// loading.c -- loads objects in ways that decide for themselves whose malloc they call, or where they are looked for
//
// usage: loading HOW LIBRARY. HOW: "deepbind": the library finds its own libraries' functions before everybody's; "namespace": it
// gets a C library of its own (dlmopen); "again": it comes and goes, each time perhaps elsewhere. LIBRARY (loading_library.c) loads
// a second one by a name that only its own RUNPATH leads to. Blocks go to and fro where both sides have one allocator. Prints sums.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plug {
	char *(*make)(size_t);
	char *(*grow)(char *, size_t);
	void (*drop)(char *);
	int (*chosen)(int);
	int (*inner)(const char *);
};

static int load(const char *how, const char *path, void **handle, struct plug *plug)
{
	if (strcmp(how, "namespace") == 0)
		*handle = dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
	else
		*handle = dlopen(path, RTLD_NOW | (strcmp(how, "deepbind") == 0 ? RTLD_DEEPBIND : 0));
	if (!*handle) {
		fprintf(stderr, "%s\n", dlerror());
		return 0;
	}
	plug->make = (char *(*)(size_t))dlsym(*handle, "plug_make");
	plug->grow = (char *(*)(char *, size_t))dlsym(*handle, "plug_grow");
	plug->drop = (void (*)(char *))dlsym(*handle, "plug_drop");
	plug->chosen = (int (*)(int))dlsym(*handle, "plug_chosen");
	plug->inner = (int (*)(const char *))dlsym(*handle, "plug_inner");
	return plug->make && plug->grow && plug->drop && plug->chosen && plug->inner;
}

static size_t exchange(const struct plug *plug, int same_allocator)
{
	size_t sum = 0;
	for (size_t i = 0; i < 2000; i++) {
		char *theirs = plug->make(i % 300 + 1), *ours = malloc(i % 200 + 1);
		memset(ours, 1, i % 200 + 1);
		sum += (size_t)theirs[i % 300];
		if (same_allocator) { // each frees and grows what the other made
			ours = plug->grow(ours, i % 500 + 200);
			theirs = realloc(theirs, i % 400 + 300);
			sum += (size_t)ours[0] + (size_t)theirs[0];
			plug->drop(ours);
			free(theirs);
		} else {
			theirs = plug->grow(theirs, i % 500 + 300);
			sum += (size_t)theirs[0];
			plug->drop(theirs);
			free(ours);
		}
	}
	return sum;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	int rounds = strcmp(argv[1], "again") == 0 ? 50 : 1;
	for (int i = 0; i < rounds; i++) {
		struct plug plug;
		void *handle;
		if (!load(argv[1], argv[2], &handle, &plug))
			return 1;
		size_t sum = exchange(&plug, strcmp(argv[1], "namespace") != 0);
		int inner = plug.inner("libloading_inner.so");
		if (i == 0)
			printf("%s: sum %zu, chosen %d, inner %d\n", argv[1], sum, plug.chosen(20), inner);
		if (rounds > 1 && dlclose(handle) != 0)
			return 1;
	}
	return 0;
}
