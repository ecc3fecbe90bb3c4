// family.c -- a transcript of what every function of the malloc family does in its corner cases
//
// Prints results, errno, alignment and usable sizes, never addresses: the same on every run.
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile size_t huge = (size_t)1 << 62, over = SIZE_MAX;

static void say(const char *what, void *p)
{
	int error = errno;
	size_t lowest = (uintptr_t)p & -(uintptr_t)p;
	printf("%s: %s errno %d usable %zu aligned16 %d\n", what, p ? "block" : "NULL", error, malloc_usable_size(p),
	       p && lowest >= 16);
	errno = 4321; // whoever succeeds must leave it alone
}

static void is_aligned(const char *what, void *p, size_t alignment)
{
	say(what, p);
	printf("  aligned %zu: %d\n", alignment, p && (uintptr_t)p % alignment == 0);
	free(p);
}

static void sizes(void)
{
	static const size_t list[] = {0, 1, 8, 24, 25, 1000, 4096, 131072, 1000000, 20000000};
	char what[64];
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		size_t n = list[i];
		snprintf(what, sizeof(what), "malloc(%zu)", n);
		void *p = malloc(n);
		say(what, p);
		memset(p, 0x5a, malloc_usable_size(p)); // all of it may be used
		free(p);
		snprintf(what, sizeof(what), "calloc(%zu)", n);
		unsigned char *q = calloc(n, 1);
		say(what, q);
		for (size_t k = 0; k < n; k++)
			if (q[k])
				abort();
		free(q);
		snprintf(what, sizeof(what), "realloc(NULL, %zu)", n);
		p = realloc(NULL, n);
		say(what, p);
		free(p);
	}
}

static void failures(void)
{
	say("malloc(2^62)", malloc(huge));
	say("malloc(SIZE_MAX)", malloc(over));
	say("calloc(2^62, 1)", calloc(huge, 1));
	say("calloc(2^62, 8)", calloc(huge, 8));
	say("calloc(SIZE_MAX, SIZE_MAX)", calloc(over, over));
	say("reallocarray(NULL, 2^62, 8)", reallocarray(NULL, huge, 8));
	say("memalign(64, 2^62)", memalign(64, huge));
	say("memalign(2^62, 64)", memalign(huge, 64));
	say("aligned_alloc(64, SIZE_MAX)", aligned_alloc(64, over));
	say("valloc(SIZE_MAX)", valloc(over));
	say("pvalloc(SIZE_MAX)", pvalloc(over));
	void *p = (void *)huge;
	for (size_t alignment = 0; alignment < 40; alignment += 1 + alignment / 8) {
		p = (void *)huge;
		int error = posix_memalign(&p, alignment, 100);
		printf("posix_memalign(%zu, 100) = %d errno %d untouched %d\n", alignment, error, errno, p == (void *)huge);
		if (!error)
			free(p);
	}
	p = (void *)huge;
	int error = posix_memalign(&p, 64, over);
	printf("posix_memalign(64, SIZE_MAX) = %d untouched %d\n", error, p == (void *)huge);
}

static void reallocs(void)
{
	char *p = malloc(100);
	memcpy(p, "contents stay", 14);
	p = realloc(p, 200000);
	say("realloc(100 -> 200000)", p);
	puts(p);
	p = realloc(p, 50000000);
	say("realloc(-> 50000000)", p);
	puts(p);
	p = realloc(p, 20);
	say("realloc(-> 20)", p);
	puts(p);
	char *q = realloc(p, huge);
	say("realloc(p, 2^62)", q);
	puts(p); // the old block is still there
	q = reallocarray(p, huge, 8);
	say("reallocarray(p, 2^62, 8)", q);
	puts(p);
	p = reallocarray(p, 10, 10);
	say("reallocarray(p, 10, 10)", p);
	puts(p);
	char *gone = realloc(p, 0);
	say("realloc(p, 0)", gone);
	gone = malloc(10);
	gone = reallocarray(gone, 0, 10);
	say("reallocarray(p, 0, 10)", gone);
	say("reallocarray(NULL, 0, 0)", gone = reallocarray(NULL, 0, 0));
	free(gone);
	for (int i = 0; i < 1000; i++) // grows in place and moves, over and over
		q = realloc(i ? q : NULL, 10 + (size_t)i * 37 % 3000);
	say("realloc 1000 times", q);
	free(q);
	p = aligned_alloc(4096, 100);
	memcpy(p, "aligned", 8);
	p = realloc(p, 10000);
	puts(p);
	free(p);
}

int main(void)
{
	errno = 4321;
	sizes();
	failures();
	reallocs();
	is_aligned("aligned_alloc(64, 100)", aligned_alloc(64, 100), 64);
	is_aligned("aligned_alloc(24, 100)", aligned_alloc(24, 100), 1);
	is_aligned("aligned_alloc(1 MiB, 100)", aligned_alloc(1 << 20, 100), 1 << 20);
	is_aligned("memalign(128, 100)", memalign(128, 100), 128);
	is_aligned("memalign(100, 100)", memalign(100, 100), 1);
	is_aligned("memalign(0, 100)", memalign(0, 100), 1);
	is_aligned("valloc(100)", valloc(100), (size_t)sysconf(_SC_PAGESIZE));
	is_aligned("pvalloc(0)", pvalloc(0), (size_t)sysconf(_SC_PAGESIZE));
	is_aligned("pvalloc(5000)", pvalloc(5000), (size_t)sysconf(_SC_PAGESIZE));
	printf("usable NULL %zu\n", malloc_usable_size(NULL));
	errno = 77;
	free(NULL);
	free(malloc(10));
	free(malloc(10000000));
	printf("free leaves errno: %d\n", errno);
	struct mallinfo2 info = mallinfo2();
	printf("mallinfo2 ordblks > 0: %d, trim %d\n", info.ordblks > 0, malloc_trim(0) >= 0);
	return 0;
}
