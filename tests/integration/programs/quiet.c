// quiet.c -- a million allocations between two marks (getpriority), to count system calls in between
//
// usage: quiet [THREADS]. Prints how many tasks the process has at the end.
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *held[512];

static void *work(void *unused)
{
	void *own[512] = {0};
	void **slots = unused ? own : held;
	for (int i = 0; i < 1000000; i++) {
		free(slots[i % 512]);
		slots[i % 512] = malloc((size_t)(16 + i % 48));
	}
	return unused;
}

static int tasks(void)
{
	int n = 0;
	DIR *directory = opendir("/proc/self/task");
	for (struct dirent *entry; (entry = readdir(directory));)
		n += entry->d_name[0] != '.';
	closedir(directory);
	return n;
}

int main(int argc, char **argv)
{
	pthread_t threads[16];
	int n = argc > 1 ? atoi(argv[1]) : 0;
	work(NULL); // warm-up: the heap, the sampler, the tables
	syscall(SYS_getpriority, 0, 0);
	work(NULL);
	syscall(SYS_getpriority, 0, 0);
	for (int i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, work, (void *)1);
	printf("tasks %d\n", tasks() - n);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
