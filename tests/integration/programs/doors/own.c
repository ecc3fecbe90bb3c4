// own.c -- a library that brings an allocator of its own and says what it can see of it; C, or part of own_module.cc
//
// Linked with jemalloc or mimalloc, statically or dynamically, or with neither. own_make(COUNT) keeps so many blocks of
// malloc's and realloc's, in C++ as many of operator new's, and as many that it asks the allocator for by its own name.
// own_drop() frees all of them, each where it came from. own_report() prints what the allocator itself says, a line for
// each of these: the usable size of a block of malloc's (each allocator has its own classes), and whether they are its own,
// by how its count of bytes grew, or by their place.
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __cplusplus
#include <new>
#endif

#define SITE __attribute__((noinline, noclone)) static
#define OPAQUE(p) __asm__ volatile("" : "+r"(p))

struct held {
	struct held *next;
};

enum { BY_MALLOC, BY_NEW, BY_NAME, WAYS };
static const char *const way_names[WAYS] = {"malloc", "new", "name"};
static const size_t way_bytes[WAYS] = {2100, 1700, 1300};
static struct held *first[WAYS];
static uint64_t grown[WAYS];

// ---- the allocator's own words ---------------------------------------------------------------------

#ifdef __cplusplus
extern "C" {
#endif
#if defined(JEMALLOC)
int mallctl(const char *, void *, size_t *, void *, size_t);
void *mallocx(size_t, int);
void dallocx(void *, int);
static void *by_name(size_t bytes) { return mallocx(bytes, 0); }
static void free_by_name(void *p) { dallocx(p, 0); }
#elif defined(MIMALLOC)
bool mi_is_in_heap_region(const void *);
void *mi_malloc(size_t);
void mi_free(void *);
static void *by_name(size_t bytes) { return mi_malloc(bytes); }
static void free_by_name(void *p) { mi_free(p); }
#else
static void *by_name(size_t bytes) { return bytes ? NULL : malloc(0); }
static void free_by_name(void *p) { (void)p; }
#endif
#ifdef __cplusplus
}
#endif

// Bytes that this thread has ever had of it.
static uint64_t given(void)
{
	uint64_t bytes = 0;
#ifdef JEMALLOC
	size_t length = sizeof(bytes);
	if (mallctl("thread.allocated", &bytes, &length, NULL, 0) != 0)
		abort();
#endif
	return bytes;
}

static int are_its_own(int way, int count)
{
#ifdef MIMALLOC
	(void)count;
	return mi_is_in_heap_region(first[way]);
#else
	return grown[way] >= (uint64_t)count * way_bytes[way];
#endif
}

// ---- blocks ----------------------------------------------------------------------------------------

SITE void *made_block(size_t bytes)
{
	void *p = malloc(bytes);
	OPAQUE(p);
	return p;
}

SITE void *made_grown(size_t bytes)
{
	void *p = realloc(calloc(1, 20), bytes);
	OPAQUE(p);
	return p;
}

SITE void *made_by_new(size_t bytes)
{
#ifdef __cplusplus
	void *p = ::operator new(bytes);
#else
	void *p = bytes ? NULL : &first;
#endif
	OPAQUE(p);
	return p;
}

SITE void *made_by_name(size_t bytes)
{
	void *p = by_name(bytes);
	OPAQUE(p);
	return p;
}

static void *make(int way, int i)
{
	size_t bytes = way_bytes[way];
	switch (way) {
	case BY_MALLOC: return i % 2 ? made_block(bytes) : made_grown(bytes);
	case BY_NEW: return made_by_new(bytes);
	default: return made_by_name(bytes);
	}
}

static void drop(int way, void *p)
{
	switch (way) {
	case BY_MALLOC: free(p); break;
	case BY_NEW:
#ifdef __cplusplus
		::operator delete(p);
#endif
		break;
	default: free_by_name(p);
	}
}

#ifdef __cplusplus
extern "C" {
#endif

void own_make(int count)
{
	for (int way = 0; way < WAYS; way++) {
		uint64_t before = given();
		for (int i = 0; i < count; i++) {
			struct held *p = (struct held *)make(way, i);
			if (!p)
				break;
			p->next = first[way];
			first[way] = p;
		}
		grown[way] = given() - before;
	}
	if (!first[BY_MALLOC])
		abort();
}

void own_drop(void)
{
	for (int way = 0; way < WAYS; way++)
		while (first[way]) {
			struct held *p = first[way];
			first[way] = p->next;
			drop(way, p);
		}
}

void own_report(int count)
{
	size_t usable = malloc_usable_size(first[BY_MALLOC]);
	if (are_its_own(BY_MALLOC, count))
		printf("usable %zu\n", usable);
	else // the C library may leave a block a little larger
		printf("usable %s\n", usable >= 2100 && usable < 2200 ? "as asked for" : "otherwise");
	for (int way = 0; way < WAYS; way++)
		if (first[way])
			printf("%s %s\n", way_names[way], are_its_own(way, count) ? "its own" : "not its own");
	fflush(stdout);
}

#ifdef __cplusplus
}
#endif
