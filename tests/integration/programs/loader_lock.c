// loader_lock.c -- children forked while another thread holds the loader's lock, which nobody gives back in them
//
// usage: loader_lock [CHILDREN]. Each child allocates and ends; prints "good N".
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile sink;
static volatile int begun, stop;

static int look(struct dl_phdr_info *info, size_t bytes, void *unused)
{
	(void)info, (void)bytes, (void)unused;
	begun = 1;
	for (volatile int i = 0; i < 2000; i++)
		;
	return 0;
}

static void *hold(void *unused)
{
	while (!stop)
		dl_iterate_phdr(look, NULL);
	return unused;
}

int main(int argc, char **argv)
{
	int children = argc > 1 ? atoi(argv[1]) : 20, good = 0, left;
	pthread_t thread;
	pthread_create(&thread, NULL, hold, NULL);
	while (!begun)
		;
	for (int i = 0; i < children; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			alarm(60); // one that waits for ever is ended
			for (int n = 0; n < 3000; n++)
				free(sink = malloc(100 + n));
			_exit(0);
		}
	}
	for (int status; (left = wait(&status)) > 0;)
		good += WIFEXITED(status) && WEXITSTATUS(status) == 0;
	stop = 1;
	pthread_join(thread, NULL);
	printf("good %d\n", good);
	return 0;
}
