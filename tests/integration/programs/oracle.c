// oracle.c -- random malloc-family traffic with its own exact ledger
//
// usage: oracle THREADS OPERATIONS_PER_THREAD SEED
// Each thread owns slots and a few shared ones; every block is allocated by one of SITES functions
// and each site keeps its live count and bytes. At the end prints "site I count bytes" per site and
// leaves the live blocks live. The test compares this with the recording, row by row.
// A few blocks are of 128 KiB to 20 MiB. With an odd seed malloc maps each of them by itself; with an even one it takes
// them from its heaps as soon as it has seen one freed. "large COUNT MAPPED" says how many there were, and how many were
// mapped; "always I count bytes" what is live of the sizes that are sampled in every mode.
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SITES 12
#define SLOTS 4096
#define SHARED 256
#define LARGE (128UL << 10)
#define ALWAYS (16UL << 20)
#define LARGE_LIVE_MOST (512LL << 20)

struct block {
	void *p;
	size_t bytes;
	int site;
};

static struct block shared[SHARED];
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static long long live_count[SITES], live_bytes[SITES];
static long long always_live_count[SITES], always_live_bytes[SITES];
static long long large_live, large_count, mapped_count;
static long operations;
static unsigned long long seed;

static void account(int site, long long count, size_t size)
{
	long long bytes = count * (long long)size;
	__atomic_fetch_add(&live_count[site], count, __ATOMIC_RELAXED);
	__atomic_fetch_add(&live_bytes[site], bytes, __ATOMIC_RELAXED);
	if (size >= LARGE)
		__atomic_fetch_add(&large_live, bytes, __ATOMIC_RELAXED);
	if (size < ALWAYS)
		return;
	__atomic_fetch_add(&always_live_count[site], count, __ATOMIC_RELAXED);
	__atomic_fetch_add(&always_live_bytes[site], bytes, __ATOMIC_RELAXED);
}

static void took(int site, const void *p, size_t bytes)
{
	account(site, 1, bytes);
	if (bytes < LARGE)
		return;
	__atomic_fetch_add(&large_count, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&mapped_count, ((const size_t *)p)[-1] >> 1 & 1, __ATOMIC_RELAXED); // glibc's IS_MMAPPED
}

#define SITE(n, expression)                                                                        \
	__attribute__((noinline, noclone)) void *site_##n(void *old, size_t bytes)                 \
	{                                                                                          \
		(void)old;                                                                         \
		void *p = (expression);                                                            \
		__asm__ volatile("" : "+r"(p));                                                    \
		return p;                                                                          \
	}
static void *by_posix_memalign(size_t bytes)
{
	void *p = NULL;
	return posix_memalign(&p, 64, bytes) ? NULL : p;
}
SITE(0, malloc(bytes))
SITE(1, malloc(bytes))
SITE(2, calloc(1, bytes))
SITE(3, calloc(bytes, 1))
SITE(4, realloc(old, bytes))
SITE(5, realloc(old, bytes))
SITE(6, reallocarray(old, bytes, 1))
SITE(7, by_posix_memalign(bytes))
SITE(8, aligned_alloc(32, bytes))
SITE(9, memalign(128, bytes))
SITE(10, valloc(bytes))
SITE(11, pvalloc(bytes))
static void *(*const sites[SITES])(void *, size_t) = {site_0, site_1, site_2, site_3, site_4, site_5,
						      site_6, site_7, site_8, site_9, site_10, site_11};
static int is_realloc(int site) { return site >= 4 && site <= 6; }

static unsigned long long next(unsigned long long *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static size_t size_of(unsigned long long r)
{
	if (r % 1013 == 0 && __atomic_load_n(&large_live, __ATOMIC_RELAXED) < LARGE_LIVE_MOST)
		return LARGE + (r >> 32) % ((20UL << 20) - LARGE);
	return 1 + (r >> 32) % (r % 251 == 0 ? 100000 : 300);
}

static void step(struct block *b, unsigned long long r)
{
	int site = (int)(r % 97);
	site = site < 10 ? site : site % 10; // valloc and pvalloc now and then only: they are whole pages
	if (r % 997 == 0)
		site = 10 + (int)(r >> 20 & 1);
	size_t bytes = size_of(r);
	if (b->p && is_realloc(site)) {
		if (r % 1009 == 0) { // cannot be satisfied: the old block stays
			void *q = realloc(b->p, (size_t)1 << 62);
			if (q || errno != ENOMEM)
				abort();
			return;
		}
		void *q = sites[site](b->p, bytes);
		account(b->site, -1, b->bytes);
		*b = (struct block){q, bytes, site};
		took(site, q, bytes);
	} else if (b->p) {
		free(b->p);
		account(b->site, -1, b->bytes);
		b->p = NULL;
	} else {
		*b = (struct block){sites[site](NULL, bytes), bytes, site};
		memset(b->p, 1, bytes < 16 ? bytes : 16);
		took(site, b->p, bytes);
	}
}

static void *thread(void *number)
{
	static struct block slots[64][SLOTS];
	struct block *own = slots[(uintptr_t)number % 64];
	unsigned long long state = seed * 2654435761u + (unsigned long long)(uintptr_t)number * 40503u + 88172645463325252ULL;
	for (long i = 0; i < operations; i++) {
		unsigned long long r = next(&state);
		if (r % 64 == 0) {
			pthread_mutex_lock(&shared_lock); // blocks that one thread makes and another frees
			step(&shared[r / 64 % SHARED], next(&state));
			pthread_mutex_unlock(&shared_lock);
		} else {
			step(&own[r / 64 % SLOTS], next(&state));
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 4;
	operations = argc > 2 ? atol(argv[2]) : 100000;
	seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
	pthread_t ids[64];
	if (seed % 2)
		mallopt(M_MMAP_THRESHOLD, LARGE); // and no longer raised by what is freed
	for (long i = 0; i < threads; i++)
		pthread_create(&ids[i], NULL, thread, (void *)(i + 1));
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	for (int i = 0; i < SITES; i++)
		printf("site %d %lld %lld\nalways %d %lld %lld\n", i, live_count[i], live_bytes[i], i, always_live_count[i],
		       always_live_bytes[i]);
	printf("large %lld %lld\n", large_count, mapped_count);
	fflush(stdout);
	return 0;
}
