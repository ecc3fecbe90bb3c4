// forking.c -- a parent with busy threads and eight forked writers, each with a ledger of its own
//
// usage: forking THREADS [CHILDREN]. Prints "parent NAME COUNT BYTES" for what the parent keeps,
// "total NAME COUNT BYTES FREED_COUNT FREED_BYTES" for all it ever allocated and freed, and
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

static struct ledger {
	long count, bytes, freed_count, freed_bytes;
} of_parent, of_moved, of_threads;

static void took(struct ledger *ledger, size_t n)
{
	__atomic_fetch_add(&ledger->count, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&ledger->bytes, (long)n, __ATOMIC_RELAXED);
}

static void gave_back(struct ledger *ledger, size_t n)
{
	__atomic_fetch_add(&ledger->freed_count, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&ledger->freed_bytes, (long)n, __ATOMIC_RELAXED);
}

__attribute__((noinline, noclone)) void *keep_parent(size_t n) { return sink = malloc(n); }
__attribute__((noinline, noclone)) void *keep_moved(void *p, size_t n) { return sink = realloc(p, n); }
__attribute__((noinline, noclone)) void *keep_child_early(size_t n) { return sink = malloc(n); }
__attribute__((noinline, noclone)) void *keep_child_late(size_t n) { return sink = malloc(n); }
__attribute__((noinline, noclone)) void *pass_thread(size_t n) { return sink = malloc(n); }

static void *busy(void *unused)
{
	void *held[100] = {0};
	unsigned n = 0;
	for (; !stop; n++) {
		free(held[n % 100]);
		if (n >= 100)
			gave_back(&of_threads, (n - 100) % 400);
		held[n % 100] = pass_thread(n % 400);
		took(&of_threads, n % 400);
	}
	for (unsigned i = n < 100 ? 0 : n - 100; i < n; i++) {
		free(held[i % 100]);
		gave_back(&of_threads, i % 400);
	}
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

static void print(const char *name, const struct ledger *l)
{
	printf("parent %s %ld %ld\n", name, l->count - l->freed_count, l->bytes - l->freed_bytes);
	printf("total %s %ld %ld %ld %ld\n", name, l->count, l->bytes, l->freed_count, l->freed_bytes);
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 0, children = argc > 2 ? atoi(argv[2]) : 8, good = 0;
	pthread_t ids[16];
	pid_t pids[64];
	for (int i = 0; i < threads; i++)
		pthread_create(&ids[i], NULL, busy, NULL);
	for (int i = 0; i < KEPT; i++, took(&of_parent, 200))
		inherited[i] = keep_parent(200);
	for (int i = 0; i < children; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			child(i);
		for (size_t k = 0; k < 1000; k++, took(&of_parent, k % 100))
			keep_parent(k % 100);
		free(inherited[2 * i]);
		gave_back(&of_parent, 200);
		inherited[2 * i] = keep_moved(inherited[2 * i + 1], 300 + (size_t)i);
		gave_back(&of_parent, 200);
		took(&of_moved, 300 + (size_t)i);
		inherited[2 * i + 1] = NULL;
	}
	for (int i = 0; i < children; i++) {
		int status;
		waitpid(pids[i], &status, 0);
		good += WIFEXITED(status) && WEXITSTATUS(status) == 40 + i;
	}
	stop = 1;
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	print("keep_parent", &of_parent);
	print("keep_moved", &of_moved);
	print("pass_thread", &of_threads);
	printf("good %d\n", good);
	return good == children ? 0 : 1;
}
