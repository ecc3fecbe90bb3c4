// bump_malloc.c -- a malloc family that may be called in signal handlers: never frees, one atomic add
//
// Built with -shared -fPIC and preloaded behind the tracer, so that a handler may allocate while it
// interrupts an allocation, at any instruction of it.
#include <errno.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ROOM ((size_t)1 << 30)
static alignas(4096) char room[ROOM];
static size_t used;

static void *take(size_t alignment, size_t bytes)
{
	if (bytes > ROOM / 4)
		return errno = ENOMEM, NULL;
	size_t from = __atomic_fetch_add(&used, bytes + alignment + 16, __ATOMIC_RELAXED);
	if (from + bytes + alignment + 16 > ROOM)
		return errno = ENOMEM, NULL;
	uintptr_t p = ((uintptr_t)room + from + 16 + alignment - 1) & -(uintptr_t)alignment;
	((size_t *)p)[-1] = bytes;
	return (void *)p;
}

void *malloc(size_t bytes) { return take(16, bytes); }
void free(void *p) { (void)p; }
void *calloc(size_t n, size_t each) { return take(16, n * each); } // fresh pages are zero
void *memalign(size_t alignment, size_t bytes) { return take(alignment < 16 ? 16 : alignment, bytes); }
void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
void *valloc(size_t bytes) { return take(4096, bytes); }
void *pvalloc(size_t bytes) { return take(4096, bytes); }
int posix_memalign(void **out, size_t alignment, size_t bytes)
{
	*out = memalign(alignment, bytes);
	return *out ? 0 : ENOMEM;
}
size_t malloc_usable_size(void *p) { return p ? ((size_t *)p)[-1] : 0; }
void *realloc(void *old, size_t bytes)
{
	void *p = take(16, bytes);
	if (p && old)
		memcpy(p, old, malloc_usable_size(old) < bytes ? malloc_usable_size(old) : bytes);
	return p;
}
void *reallocarray(void *old, size_t n, size_t each) { return realloc(old, n * each); }
