// callers.c -- one function per allocation function, each leaving one block of a size of its own live
//
// Prints "site NAME 1 BYTES" per function. The innermost frame of each row must be that function.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static void *volatile kept;

#define CALLER(name, bytes, expression)                                                            \
	__attribute__((noinline, noclone)) void call_##name(void)                                  \
	{                                                                                          \
		kept = (expression);                                                               \
		printf("site call_" #name " 1 %d\n", bytes);                                       \
	}
static void *by_posix_memalign(size_t bytes)
{
	void *p;
	return posix_memalign(&p, 64, bytes) ? NULL : p;
}
CALLER(malloc, 1001, malloc(1001))
CALLER(calloc, 1002, calloc(2, 501))
CALLER(realloc_new, 1003, realloc(NULL, 1003))
CALLER(realloc_grown, 100400, realloc(malloc(8), 100400))
CALLER(realloc_shrunk, 1005, realloc(malloc(100000), 1005))
CALLER(reallocarray, 1006, reallocarray(NULL, 2, 503))
CALLER(reallocarray_old, 1008, reallocarray(malloc(8), 2, 504))
CALLER(posix_memalign, 1009, by_posix_memalign(1009))
CALLER(aligned_alloc, 1010, aligned_alloc(64, 1010))
CALLER(memalign, 1011, memalign(64, 1011))
CALLER(valloc, 1012, valloc(1012))
CALLER(pvalloc, 1013, pvalloc(1013))
CALLER(malloc_0, 0, malloc(0))
CALLER(malloc_large, 20000000, malloc(20000000))
CALLER(mmap, 1 << 20, mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
CALLER(mremap, 2 << 20, mremap(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1 << 20, 2 << 20, MREMAP_MAYMOVE))

int main(void)
{
	call_malloc(), call_calloc(), call_realloc_new(), call_realloc_grown(), call_realloc_shrunk();
	call_reallocarray(), call_reallocarray_old(), call_posix_memalign(), call_aligned_alloc(), call_memalign();
	call_valloc(), call_pvalloc(), call_malloc_0(), call_malloc_large(), call_mmap(), call_mremap();
	return 0;
}
