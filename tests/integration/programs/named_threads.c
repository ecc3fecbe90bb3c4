// named_threads.c -- threads with names of their own; each keeps blocks of a size of its own, and waits
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCKS 1000
static const char *const names[] = {"reader", "writer", "fifteen letters"};
static void *volatile kept[3][BLOCKS];
static pthread_barrier_t all_ready;

static void *work(void *argument)
{
	unsigned long self = (unsigned long)argument;
	pthread_setname_np(pthread_self(), names[self]);
	for (int i = 0; i < BLOCKS; i++)
		kept[self][i] = malloc(100 * (self + 1));
	printf("%ld %s\n", syscall(SYS_gettid), names[self]);
	pthread_barrier_wait(&all_ready);
	pause();
	return NULL;
}

int main(void)
{
	static char buffer[4096]; // not one that the first thread to print allocates
	setvbuf(stdout, buffer, _IOLBF, sizeof(buffer));
	pthread_t thread[3];
	pthread_barrier_init(&all_ready, NULL, 4);
	for (unsigned long i = 0; i < 3; i++)
		pthread_create(&thread[i], NULL, work, (void *)i);
	pthread_barrier_wait(&all_ready);
	puts("ready");
	fflush(stdout);
	getchar();
	_exit(0);
}
