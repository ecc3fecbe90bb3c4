// closing.c -- a program that takes every descriptor for its own: closes all, uses all numbers again, looks what is open
//
// usage: closing. Writes to the files a.txt ... in its directory; prints which descriptors are open.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void allocate(int count)
{
	for (int i = 0; i < count; i++)
		free(realloc(malloc((size_t)(i % 300 + 1)), (size_t)(i % 500 + 1)));
}

static void *work(void *unused)
{
	allocate(20000);
	return unused;
}

static void show_open(const char *when)
{
	char names[1024] = "";
	for (int fd = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			snprintf(names + strlen(names), sizeof(names) - strlen(names), " %d", fd);
	printf("%s:%s\n", when, names);
	fflush(stdout);
}

static void fill(const char *name, int round)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
	char line[64];
	int length = snprintf(line, sizeof(line), "%s in round %d through %d\n", name, round, fd);
	if (fd < 0 || write(fd, line, (size_t)length) != length)
		exit(4);
}

int main(void)
{
	struct rlimit few = {256, 256};
	pthread_t thread;
	setrlimit(RLIMIT_NOFILE, &few);
	show_open("at first");
	pthread_create(&thread, NULL, work, NULL);
	for (int round = 0; round < 5; round++) {
		for (int fd = 3; fd < 1024; fd++)
			close(fd);
		allocate(3000);
		fill("a.txt", round);
		fill("b.txt", round);
		show_open("used again");
	}
	pthread_join(thread, NULL);
	// Every number is taken, and nothing that anybody opens can be had.
	int taken = 0;
	while (open("/dev/null", O_RDONLY) >= 0)
		taken++;
	printf("%d more\n", taken);
	fflush(stdout);
	allocate(5000);
	pid_t child = fork();
	if (child == 0) {
		allocate(5000);
		_exit(7);
	}
	int status;
	waitpid(child, &status, 0);
	printf("child %d\n", WEXITSTATUS(status));
	fclose(stdout);
	fclose(stderr);
	close(0), close(1), close(2);
	allocate(5000);
	return open("/dev/null", O_RDONLY) == 0 ? 0 : 5;
}
