// forking.c -- a parent with busy threads and eight forked writers, each with a ledger of its own
//
// usage: forking THREADS [CHILDREN]. Prints "parent NAME COUNT BYTES" for what the parent keeps and
// "PID NAME COUNT BYTES" for what each child keeps after its first 2,000 allocations.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEPT 5000
static void *inherited[KEPT];
static void *volatile sink;
static volatile int stop;

__attribute__((noinline, noclone)) void *keep_parent(size_t n) { return sink = malloc(n); }
__attribute__((noinline, noclone)) void *keep_child_early(size_t n) { return sink = malloc(n); }
__attribute__((noinline, noclone)) void *keep_child_late(size_t n) { return sink = malloc(n); }
__attribute__((noinline, noclone)) void *pass_thread(size_t n) { return sink = malloc(n); }

static void *busy(void *unused)
{
	void *held[100] = {0};
	for (unsigned i = 0; !stop; i++) {
		free(held[i % 100]);
		held[i % 100] = pass_thread(i % 400);
	}
	for (int i = 0; i < 100; i++)
		free(held[i]);
	return unused;
}

static void child(int number)
{
	static void *held[2000];
	long bytes = 0;
	for (int i = 0; i < 2000; i++)
		held[i] = keep_child_early(100);
	for (int i = 0; i < KEPT; i += 2)
		free(inherited[i]); // the parent's copies must not be touched by this
	for (int i = 0; i < 2000; i += 2)
		free(held[i]);
	for (int i = 0; i < 3000 + number; i++) {
		keep_child_late((size_t)(i % 50));
		bytes += i % 50;
		if (i % 3 == 0)
			free(realloc(malloc(60), 1000));
	}
	char line[100];
	int n = snprintf(line, sizeof(line), "%d keep_child_late %d %ld\n", (int)getpid(), 3000 + number, bytes);
	if (write(1, line, (size_t)n) != n)
		_exit(1);
	_exit(40 + number);
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 0, children = argc > 2 ? atoi(argv[2]) : 8, good = 0;
	pthread_t ids[16];
	pid_t pids[64];
	long count = 0, bytes = 0;
	for (int i = 0; i < threads; i++)
		pthread_create(&ids[i], NULL, busy, NULL);
	for (int i = 0; i < KEPT; i++, count++, bytes += 200)
		inherited[i] = keep_parent(200);
	for (int i = 0; i < children; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			child(i);
		for (int k = 0; k < 1000; k++, count++, bytes += k % 100)
			keep_parent((size_t)(k % 100));
		free(inherited[2 * i]);
		inherited[2 * i] = NULL;
		count--, bytes -= 200;
	}
	for (int i = 0; i < children; i++) {
		int status;
		waitpid(pids[i], &status, 0);
		good += WIFEXITED(status) && WEXITSTATUS(status) == 40 + i;
	}
	stop = 1;
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	printf("parent keep_parent %ld %ld\ngood %d\n", count, bytes, good);
	return good == children ? 0 : 1;
}
