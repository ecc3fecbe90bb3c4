// big_tls.c -- loads an object that needs much of the room for thread-local storage that the loader keeps in reserve
//
// usage: big_tls LIBRARY. The library has 1.2 KiB of it, initial-exec. Prints the sum that its threads' copies give.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static int (*add)(int);

static void *work(void *unused)
{
	for (int i = 0; i < 1000; i++)
		free(malloc((size_t)(i % 64)));
	return (void *)(size_t)add((int)(size_t)unused);
}

int main(int argc, char **argv)
{
	void *handle = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
	if (!handle || !(add = (int (*)(int))dlsym(handle, "add"))) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	size_t sum = 0;
	pthread_t threads[8];
	for (size_t i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, work, (void *)i);
	for (size_t i = 0; i < 8; i++) {
		void *result;
		pthread_join(threads[i], &result);
		sum += (size_t)result;
	}
	printf("sum %zu\n", sum);
	return 0;
}
