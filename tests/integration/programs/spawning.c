// spawning.c -- starts processes in every other way than fork, allocating before, in and after
//
// usage: spawning vfork|posix_spawn|clone_vm|clone_vm_running|clone|system|popen|daemon|double_fork [PROGRAM]
// Prints the ledger of what it keeps, "site NAME COUNT BYTES", and what it saw of the child.
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static void *volatile sink;
static volatile int shared;
static long kept, kept_bytes;
static const char *program = "/bin/true";

__attribute__((noinline, noclone)) void keep_here(size_t n)
{
	sink = malloc(n);
	kept++, kept_bytes += (long)n;
}

static void churn(void)
{
	for (size_t i = 0; i < 3000; i++) {
		keep_here(i % 70);
		free(realloc(malloc(10), i));
	}
}

static int in_shared_memory(void *unused) // the parent waits: what is allocated here is in its memory
{
	for (size_t i = 0; i < 2000; i++)
		keep_here(i % 30);
	shared = unused == NULL;
	_exit(9);
}

static int beside_the_parent(void *unused) // the parent runs: this one may only compute
{
	for (int i = 0; i < 20000000 && !shared; i++)
		__asm__ volatile("");
	shared = 2;
	(void)unused;
	syscall(SYS_exit, 9);
	return 0;
}

static int status_of(pid_t pid)
{
	int status = -1;
	waitpid(pid, &status, __WALL);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

static int spawn(const char *how)
{
	static char stack[65536] __attribute__((aligned(16)));
	char *arguments[] = {(char *)program, NULL};
	pid_t pid;
	if (!strcmp(how, "vfork")) {
		pid = vfork();
		if (pid == 0) {
			execv(program, arguments);
			_exit(99);
		}
		return status_of(pid);
	}
	if (!strcmp(how, "posix_spawn"))
		return posix_spawn(&pid, program, NULL, NULL, arguments, environ) ? -1 : status_of(pid);
	if (!strcmp(how, "clone_vm"))
		return status_of(clone(in_shared_memory, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
	if (!strcmp(how, "clone_vm_running")) {
		pid = clone(beside_the_parent, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
		for (int i = 0; i < 100; i++)
			churn();
		shared = 1;
		return status_of(pid);
	}
	if (!strcmp(how, "clone")) {
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (pid == 0) {
			churn();
			churn();
			_exit(7);
		}
		return status_of(pid);
	}
	if (!strcmp(how, "system"))
		return system("echo from the shell; exit 3");
	if (!strcmp(how, "popen")) {
		char line[100];
		FILE *pipe = popen("echo through a pipe; exit 4", "r");
		fputs(fgets(line, sizeof(line), pipe) ? line : "nothing\n", stdout);
		return pclose(pipe);
	}
	if (!strcmp(how, "daemon"))
		return daemon(1, 1);
	if (!strcmp(how, "double_fork")) {
		pid = fork();
		if (pid == 0) {
			churn();
			pid = fork();
			if (pid == 0) {
				churn();
				_exit(5);
			}
			_exit(status_of(pid));
		}
		return status_of(pid);
	}
	return -2;
}

int main(int argc, char **argv)
{
	if (argc > 2)
		program = argv[2];
	churn();
	fflush(stdout);
	int status = spawn(argc > 1 ? argv[1] : "vfork");
	printf("child: %d\n", status);
	churn();
	printf("site keep_here %ld %ld\n", kept, kept_bytes);
	return 0;
}
