// timed.c -- runs a command and writes what the kernel accounts to it
//
// usage: timed REPORT LIMIT_S COMMAND [ARGUMENT…]
//
// REPORT gets one line: status as wait4() gives it, user and system µs, peak KiB, wall ns, 1 if it was ended at the
// limit. The command runs in a session of its own, which is killed whole at the limit or when we are ended.
//
// It is small and linked statically: a process's peak counts what the one that forked it held (a parent of 50 MiB hides
// every child that holds less), and a library that is preloaded for the command must not come into this one.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile pid_t child;
static volatile sig_atomic_t ended_by_us;

static void end(int number)
{
	(void)number;
	ended_by_us = 1;
	if (child > 0)
		kill(-child, SIGKILL);
}

int main(int argc, char **argv)
{
	struct timespec began, ended;
	struct rusage usage;
	int status;
	if (argc < 4)
		return 2;
	signal(SIGALRM, end);
	signal(SIGTERM, end);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	clock_gettime(CLOCK_MONOTONIC, &began);
	child = fork();
	if (child == 0) {
		signal(SIGALRM, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		setsid();
		prctl(PR_SET_PDEATHSIG, SIGKILL); // if we are killed without a word
		execvp(argv[3], argv + 3);
		perror(argv[3]);
		_exit(127);
	}
	if (child < 0)
		return 1;
	alarm((unsigned)atoi(argv[2]));
	while (wait4(child, &status, 0, &usage) < 0)
		if (errno != EINTR)
			return 1;
	clock_gettime(CLOCK_MONOTONIC, &ended);
	alarm(0);
	FILE *report = fopen(argv[1], "w");
	if (report == NULL)
		return 1;
	fprintf(report, "%d %ld %ld %ld %lld %d\n", status, usage.ru_utime.tv_sec * 1000000L + usage.ru_utime.tv_usec,
	        usage.ru_stime.tv_sec * 1000000L + usage.ru_stime.tv_usec, usage.ru_maxrss,
	        (ended.tv_sec - began.tv_sec) * 1000000000LL + (ended.tv_nsec - began.tv_nsec), (int)ended_by_us);
	return fclose(report) != 0;
}
