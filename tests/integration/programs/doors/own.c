// own.c -- an extension that brings an allocator of its own and says what it can see of it
//
// Linked with jemalloc or mimalloc, statically or dynamically, or with neither. own_make(COUNT) keeps blocks,
// own_drop() frees all of them, own_report() prints what the allocator itself says: the usable size of a block
// (each allocator has its own classes) and how its count of bytes grew.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef JEMALLOC
int mallctl(const char *, void *, size_t *, void *, size_t);
#endif
#ifdef MIMALLOC
_Bool mi_is_in_heap_region(const void *);
#endif

struct held {
	struct held *next;
};
static struct held *first;
static size_t in_use_before;

static size_t in_use(void)
{
	size_t bytes = 0;
#ifdef JEMALLOC
	size_t length = sizeof(bytes);
	unsigned long epoch = 1;
	mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
	if (mallctl("stats.allocated", &bytes, &length, NULL, 0) != 0)
		abort();
#endif
	return bytes;
}

__attribute__((noinline, noclone)) static void *made_block(size_t bytes)
{
	void *p = malloc(bytes);
	__asm__ volatile("" : "+r"(p));
	return p;
}

__attribute__((noinline, noclone)) static void *made_grown(size_t bytes)
{
	void *p = realloc(calloc(1, 20), bytes);
	__asm__ volatile("" : "+r"(p));
	return p;
}

void own_make(int count)
{
	in_use_before = in_use();
	for (int i = 0; i < count; i++) {
		struct held *p = i % 2 ? made_block(2100) : made_grown(2100);
		if (!p)
			abort();
		p->next = first;
		first = p;
	}
}

void own_drop(void)
{
	while (first) {
		struct held *p = first;
		first = p->next;
		free(p);
	}
}

void own_report(int count)
{
	size_t grown = in_use() - in_use_before;
	size_t usable = first ? malloc_usable_size(first) : 0;
#ifdef JEMALLOC
	printf("usable %zu, grown by all %d", usable, grown >= (size_t)count * 2100 && grown < (size_t)count * 2100 * 2);
#elif defined(MIMALLOC)
	(void)grown, (void)count;
	printf("usable %zu, in its regions %d", usable, mi_is_in_heap_region(first));
#else
	(void)grown, (void)count; // the C library may leave a block a little larger
	printf("usable %s", usable >= 2100 && usable < 2200 ? "as asked for" : "otherwise");
#endif
	printf("\n");
	fflush(stdout);
}
