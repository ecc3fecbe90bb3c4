// golden_service.c -- what the golden recordings were made of: two leaking functions, a mapping, a thread
//
// See tests/test_golden.py for how one is made.
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

__attribute__((noinline)) void *leak_small(void) { void *volatile p = malloc(64); return p; }
__attribute__((noinline)) void *leak_large(void) { void *volatile p = calloc(3, 1 << 20); return p; }
__attribute__((noinline)) void *balanced(void) { void *volatile p = malloc(200); return p; }

static void *work(void *unused)
{
	for (int i = 0; i < 20000; i++) {
		leak_small();
		free(balanced());
	}
	return unused;
}

int main(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, work, NULL);
	work(NULL);
	for (int i = 0; i < 5; i++)
		leak_large();
	mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_join(thread, NULL);
	return 0;
}
