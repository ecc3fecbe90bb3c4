// allocator.h -- the functions behind our hooks
//
// Layer 9. One table of pointers, each starting at a function that resolves the whole table. It is
// filled once, by the very first call of any of them, and never cleared.
#ifndef MEMLEAK_ALLOCATOR_H
#define MEMLEAK_ALLOCATOR_H

#include "base.h"

#include <pthread.h>
#include <sys/types.h>

struct allocator {
	void *(*malloc)(size_t);
	void (*free)(void *);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void *(*reallocarray)(void *, size_t, size_t);
	int (*posix_memalign)(void **, size_t, size_t);
	void *(*aligned_alloc)(size_t, size_t);
	void *(*memalign)(size_t, size_t);
	void *(*valloc)(size_t);
	void *(*pvalloc)(size_t);
	size_t (*malloc_usable_size)(void *);
	void *(*mmap)(void *, size_t, int, int, int, off_t);
	int (*munmap)(void *, size_t);
	void *(*mremap)(void *, size_t, size_t, int, void *);
	int (*dlclose)(void *);
	void *(*dlsym)(void *, const char *);
	int (*unshare)(int);
	int (*setns)(int, int);
	int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
};
extern struct allocator real HIDDEN;

// Once. Reads ELF tables only: no dlsym (it may call calloc), no lock, no allocation.
void allocator_resolve(void);

// Is pc inside the object that provides malloc? Its own mappings are arenas, counted as what is cut from them.
bool allocator_owns(uintptr_t pc);
void allocator_set_owner(uintptr_t low, uintptr_t high); // cold

// The same for an allocator on top of malloc's, whose arenas are mappings of exactly this size. Cold to set.
bool allocator_is_arena(uintptr_t pc, size_t bytes);
void allocator_set_arenas(uintptr_t low, uintptr_t high, size_t bytes);

#endif
