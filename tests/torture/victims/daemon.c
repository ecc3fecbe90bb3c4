// daemon.c -- becomes a daemon of another user with nothing left of its environment, and works on
//
// usage: daemon. Its words go to daemon.txt in its directory, which it must be allowed to write to.
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void allocate(int count)
{
	for (int i = 0; i < count; i++)
		free(realloc(malloc((size_t)(i % 300 + 1)), (size_t)(i % 3000 + 1)));
}

static void *work(void *unused)
{
	allocate(5000);
	return unused;
}

static int serve(int directory)
{
	setsid();
	umask(0);
	if (chdir("/") != 0 || clearenv() != 0)
		return 11;
	if (getuid() == 0 && (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0))
		return 12;
	pthread_t thread;
	allocate(5000);
	if (pthread_create(&thread, NULL, work, NULL) != 0 || pthread_join(thread, NULL) != 0)
		return 13;
	pid_t child = fork();
	if (child == 0) {
		allocate(5000);
		_exit(21);
	}
	int status, fd = openat(directory, "daemon.txt", O_WRONLY | O_CREAT | O_EXCL, 0666);
	waitpid(child, &status, 0);
	struct stat about;
	if (fd < 0 || fstat(fd, &about) != 0)
		return 14;
	dprintf(fd, "user %d, mode %o, child %d\n", (int)getuid(), about.st_mode & 07777, WEXITSTATUS(status));
	return 0;
}

int main(void)
{
	int directory = open(".", O_RDONLY | O_DIRECTORY), status;
	allocate(5000);
	pid_t child = fork();
	if (child == 0)
		_exit(serve(directory));
	waitpid(child, &status, 0);
	printf("daemon %d\n", WEXITSTATUS(status));
	return WEXITSTATUS(status);
}
