// ends.c -- ends in one of many ways, with handlers that allocate and threads that still run
//
// usage: ends exit|quick_exit|_exit|return|abort|segv|pthread_exit|thread_exit|threads
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *volatile sink;
static pthread_key_t key;

static void say(const char *text)
{
	char *copy = strdup(text);
	sink = realloc(NULL, 100);
	free(sink);
	if (write(1, copy, strlen(copy)) < 0)
		_exit(99);
	free(copy);
}
static void at_exit(void) { say("atexit\n"); }
static void on_quick_exit(void) { say("quick exit\n"); }

static void destroy(void *p)
{
	static __thread int again;
	free(p);
	if (again++ < 3)
		pthread_setspecific(key, malloc(33)); // once more, as long as the library allows
}

static void *work(void *rounds)
{
	pthread_setspecific(key, malloc(50));
	void *held[64] = {0};
	for (long i = 0; i < (long)rounds; i++) {
		free(held[i % 64]);
		held[i % 64] = malloc((size_t)(i % 500));
	}
	for (int i = 0; i < 64; i++)
		free(held[i]);
	return malloc(10);
}

static void *exit_here(void *unused)
{
	sink = malloc(10);
	exit(7);
	return unused;
}

static void *late(void *main_thread)
{
	pthread_join(*(pthread_t *)main_thread, NULL);
	say("main thread is gone\n");
	free(malloc(1000));
	return NULL;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "return";
	static pthread_t thread, self;
	self = pthread_self();
	pthread_key_create(&key, destroy);
	atexit(at_exit);
	at_quick_exit(on_quick_exit);
	sink = malloc(100);
	setvbuf(stdout, NULL, _IOFBF, 1000);
	printf("buffered\n");
	if (!strcmp(how, "threads")) { // a hundred threads come and go, then one more hundred still runs at exit
		pthread_t threads[100];
		for (long i = 0; i < 100; i++)
			pthread_create(&threads[i], NULL, work, (void *)1000);
		for (int i = 0; i < 100; i++) {
			void *p;
			pthread_join(threads[i], &p);
			free(p);
		}
		for (long i = 0; i < 100; i++)
			pthread_create(&threads[i], NULL, work, (void *)1000000000);
		usleep(20000);
		exit(8);
	}
	if (!strcmp(how, "exit"))
		exit(3);
	if (!strcmp(how, "quick_exit"))
		quick_exit(4);
	if (!strcmp(how, "_exit"))
		_exit(5);
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "segv"))
		*(volatile int *)8 = 1;
	if (!strcmp(how, "pthread_exit")) {
		pthread_create(&thread, NULL, late, &self);
		pthread_exit(malloc(1));
	}
	if (!strcmp(how, "thread_exit")) {
		pthread_create(&thread, NULL, exit_here, NULL);
		pause();
	}
	return 6;
}
