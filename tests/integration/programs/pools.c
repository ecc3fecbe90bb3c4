// pools.c -- what a program tells of its pools, by the word in argv[1]; prints what memleak should say
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memleak.h"

#define KEPT __attribute__((noinline, noclone)) static

static unsigned char *memory;
static unsigned pool;

KEPT void give_small(size_t at) { memleak_pool_alloc(pool, memory + at, 40); __asm__ volatile(""); }
KEPT void give_large(size_t at) { memleak_pool_alloc(pool, memory + at, 1000); __asm__ volatile(""); }

static void *keep(void *p) // from the compiler, which would leave out the pair
{
	__asm__ volatile("" : "+r"(p));
	return p;
}

static void begin(size_t bytes)
{
	pool = memleak_pool("things");
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memleak_pool_region(pool, memory, bytes);
}

static void say_live(unsigned small, unsigned large)
{
	printf("site give_small %u %u\nsite give_large %u %u\n", small, small * 40, large, large * 1000);
}

// Blocks that stay, blocks that go, blocks that change, in two regions.
static void exact(void)
{
	begin(1 << 20);
	for (unsigned i = 0; i < 500; i++)
		give_small(i * 64);
	for (unsigned i = 0; i < 100; i++)
		give_large(65536 + i * 1024);
	for (unsigned i = 0; i < 500; i += 2)
		memleak_pool_free(pool, memory + i * 64);
	for (unsigned i = 0; i < 100; i += 4)
		memleak_pool_free_sized(pool, memory + 65536 + i * 1024, 1000);
	give_small(0); // given out again
	memleak_pool_alloc(pool, NULL, 99); // failed
	static unsigned char more[4096];
	memleak_pool_region(pool, more, sizeof(more));
	say_live(251, 75);
}

// What lies in a region that ends is gone, told or not.
static void ended(int how)
{
	begin(1 << 20);
	unsigned char *block = malloc(100000);
	memleak_pool_region(pool, block, 100000);
	for (unsigned i = 0; i < 200; i++) {
		give_small(i * 64);
		memleak_pool_alloc(pool, block + i * 64, 30);
	}
	if (how == 0)
		memleak_pool_region_end(pool, block);
	free(block);
	if (how == 2)
		munmap(memory, 1 << 20);
	for (unsigned i = 0; i < 300; i++) { // their memory, for others; and freed as theirs
		void *other = malloc(100 + i * 300);
		memset(other, 1, 100);
		free(other);
	}
	say_live(how == 2 ? 0 : 200, 0);
}

// A slab in a buddy's block: two pools at one address; the first block of malloc's memory, too.
// An arena as many programs have it: addresses are reserved, and its pages committed, given back and taken again.
static void committed(int how)
{
	unsigned char *base = mmap(NULL, 64 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	pool = memleak_pool("things");
	memleak_pool_region(pool, base, 64 << 20);
	for (unsigned i = 0; i < 4; i++)
		if (mmap(base + i * 65536, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			abort();
	memory = base;
	for (unsigned i = 0; i < 4 * 100; i++)
		give_small(i / 100 * 65536 + i % 100 * 64);
	if (how == 0)
		munmap(base + 65536, 65536);
	else
		mmap(base + 65536, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	munmap(base + 65536, 0); // fails
	mmap(base + 32 * 65536, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	say_live(300, 0);
}

static void nested(void)
{
	unsigned inner = memleak_pool("inner"), outer = memleak_pool("outer");
	for (unsigned round = 0; round < 2000; round++) {
		unsigned char *base = malloc(4096);
		memleak_pool_region(outer, base, 4096);
		memleak_pool_alloc(outer, base, 512);
		if (round % 2)
			memleak_pool_region(inner, base, 512);
		for (unsigned i = 0; i < 8; i++)
			memleak_pool_alloc(inner, base + i * 64, 64);
		for (unsigned i = 0; i < 8; i++)
			memleak_pool_free_sized(inner, base + i * 64, 64);
		if (round % 2)
			memleak_pool_region_end(inner, base);
		memleak_pool_free_sized(outer, base, 512);
		if (round % 3)
			memleak_pool_region_end(outer, base);
		free(base);
	}
	say_live(0, 0);
}

// A pool that takes large blocks straight from malloc.
static void passing_on(void)
{
	begin(1 << 20);
	for (unsigned i = 0; i < 20000; i++) {
		void *p = malloc(200);
		memleak_pool_alloc(pool, p, 200);
		if (i % 3 == 0) {
			uintptr_t was = (uintptr_t)p;
			__asm__("" : "+r"(was)); // from the compiler, which knows realloc
			void *q = realloc(p, 300 + i % 50);
			memleak_pool_resize(pool, (void *)was, q, 300 + i % 50);
			p = q;
		}
		memleak_pool_free(pool, p);
		free(p);
	}
	say_live(0, 0);
}

static void *race(void *argument)
{
	unsigned char *mine = memory + (uintptr_t)argument * 65536;
	for (unsigned round = 0; round < 400; round++) {
		for (unsigned i = 0; i < 100; i++)
			memleak_pool_alloc(pool, mine + i * 64, 40);
		for (unsigned i = 0; i < 100; i++)
			memleak_pool_free_sized(pool, mine + i * 64, 40);
	}
	for (unsigned i = 0; i < 10; i++)
		memleak_pool_alloc(pool, mine + i * 64, 40);
	return NULL;
}

// Blocks change hands between threads: one gives, the other frees.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char *shared_free[64];
static unsigned shared_count;

static void *trade(void *argument)
{
	uint64_t state = (uintptr_t)argument * 0x9E3779B97F4A7C15ULL + 1;
	unsigned char *held[8] = {0};
	for (unsigned i = 0; i < 60000; i++) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		unsigned at = state % 8;
		if (held[at])
			memleak_pool_free_sized(pool, held[at], 40);
		pthread_mutex_lock(&lock);
		if (held[at])
			shared_free[shared_count++] = held[at];
		held[at] = shared_count ? shared_free[--shared_count] : NULL;
		pthread_mutex_unlock(&lock);
		if (held[at])
			memleak_pool_alloc(pool, held[at], 40);
	}
	for (unsigned at = 0; at < 8; at++)
		if (held[at])
			memleak_pool_free(pool, held[at]);
	return NULL;
}

static void threads(void)
{
	pthread_t thread[4];
	begin(1 << 20);
	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, race, (void *)i);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; i < 40; i++)
		shared_free[shared_count++] = memory + 524288 + i * 64;
	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, trade, (void *)(i + 1));
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	printf("site race 40 1600\n");
}

// A child has its parent's pools and regions, and none of its samples.
static void forked(void)
{
	begin(1 << 20);
	for (unsigned i = 0; i < 100; i++)
		give_small(i * 64);
	fflush(stdout);
	if (fork() == 0) {
		for (unsigned i = 0; i < 3000; i++)
			free(keep(malloc(10))); // until its own recording is open
		for (unsigned i = 0; i < 100; i++)
			memleak_pool_free_sized(pool, memory + i * 64, 99); // of the parent's: not known here
		for (unsigned i = 0; i < 50; i++)
			give_large(i * 1024);
		_exit(0);
	}
	wait(NULL);
	say_live(100, 0);
}

static void many(void)
{
	char name[80];
	for (unsigned i = 1; i <= 70; i++) {
		snprintf(name, sizeof(name), "pool %u", i);
		unsigned number = memleak_pool(name);
		if (number != (i <= 63 ? i : 64) || memleak_pool(name) != number)
			printf("pool %u has number %u\n", i, number);
	}
	static unsigned char page[4096];
	pool = memleak_pool("one more");
	memory = page;
	give_small(0);
	if (memleak_pool("") != 0)
		puts("a pool without a name");
	memset(name, 'x', 79), name[79] = 0;
	memleak_pool(name);
	for (unsigned i = 0; i < 2100; i++)
		memleak_pool_region(1, page + i, 1);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "exact"))
		exact();
	else if (!strncmp(what, "ended", 5))
		ended(what[5] - '0');
	else if (!strncmp(what, "committed", 9))
		committed(what[9] - '0');
	else if (!strcmp(what, "nested"))
		nested();
	else if (!strcmp(what, "passing_on"))
		passing_on();
	else if (!strcmp(what, "threads"))
		threads();
	else if (!strcmp(what, "forked"))
		forked();
	else if (!strcmp(what, "many"))
		many();
	return 0;
}
