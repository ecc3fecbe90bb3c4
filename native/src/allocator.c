// allocator.c -- the functions behind our hooks
//
// Context:   resolution happens inside the first call of any hook, possibly before any constructor and
//            inside the loader.
// Invariant: every pointer is callable at any time: it is a resolving stub or the real function.
// Why:       the definitions are found as the loader would have: the next object behind us in the
//            global scope. dlsym() would do the same but may call calloc and take the loader's lock.
// Proof:     tests/integration/test_preload.py; every program ever run under the preload door
#include "allocator.h"

#include "atomics.h"
#include "elfimage.h"

#include <errno.h>

// ---- resolving stubs ---------------------------------------------------------------------------

static void *first_malloc(size_t n) { allocator_resolve(); return real.malloc(n); }
static void first_free(void *p) { allocator_resolve(); real.free(p); }
static void *first_calloc(size_t n, size_t m) { allocator_resolve(); return real.calloc(n, m); }
static void *first_realloc(void *p, size_t n) { allocator_resolve(); return real.realloc(p, n); }
static void *first_reallocarray(void *p, size_t n, size_t m) { allocator_resolve(); return real.reallocarray(p, n, m); }
static int first_posix_memalign(void **p, size_t a, size_t n) { allocator_resolve(); return real.posix_memalign(p, a, n); }
static void *first_aligned_alloc(size_t a, size_t n) { allocator_resolve(); return real.aligned_alloc(a, n); }
static void *first_memalign(size_t a, size_t n) { allocator_resolve(); return real.memalign(a, n); }
static void *first_valloc(size_t n) { allocator_resolve(); return real.valloc(n); }
static void *first_pvalloc(size_t n) { allocator_resolve(); return real.pvalloc(n); }
static size_t first_usable(void *p) { allocator_resolve(); return real.malloc_usable_size(p); }
static void *first_mmap(void *a, size_t n, int p, int f, int d, off_t o) { allocator_resolve(); return real.mmap(a, n, p, f, d, o); }
static int first_munmap(void *a, size_t n) { allocator_resolve(); return real.munmap(a, n); }
static void *first_mremap(void *a, size_t n, size_t m, int f, void *b) { allocator_resolve(); return real.mremap(a, n, m, f, b); }
static int first_dlclose(void *h) { allocator_resolve(); return real.dlclose(h); }
static int first_unshare(int f) { allocator_resolve(); return real.unshare(f); }
static int first_setns(int d, int f) { allocator_resolve(); return real.setns(d, f); }
static void *first_dlsym(void *h, const char *n) { allocator_resolve(); return real.dlsym(h, n); }
static int first_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x)
{
	allocator_resolve();
	return real.pthread_create(t, a, f, x);
}

struct allocator real = {
    first_malloc, first_free, first_calloc, first_realloc, first_reallocarray, first_posix_memalign, first_aligned_alloc,
    first_memalign, first_valloc, first_pvalloc, first_usable, first_mmap, first_munmap, first_mremap, first_dlclose,
    first_dlsym, first_unshare, first_setns, first_pthread_create,
};

// ---- what a name falls back to that no object defines ----------------------------------------------

static void *no_memory(void) { errno = ENOMEM; return NULL; }
static int not_there(void) { errno = ENOSYS; return -1; }
static void *absent_malloc(size_t n) { (void)n; return no_memory(); }
static void absent_free(void *p) { (void)p; }
// Before glibc 2.34 these live in libraries that may come later: look again when called.
static int absent_dlclose(void *h)
{
	uintptr_t at = elf_next_symbol((uintptr_t)&allocator_resolve, "dlclose");
	return at ? ((int (*)(void *))at)(h) : -1;
}
static void *absent_dlsym(void *h, const char *n)
{
	uintptr_t at = elf_next_symbol((uintptr_t)&allocator_resolve, "dlsym");
	return at ? ((void *(*)(void *, const char *))at)(h, n) : NULL;
}
static int absent_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x)
{
	uintptr_t at = elf_next_symbol((uintptr_t)&allocator_resolve, "pthread_create");
	return at ? ((int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))at)(t, a, f, x) : EAGAIN;
}

static uintptr_t owner_low, owner_high; // empty: malloc is libc's, whose own mappings do not pass our hooks

bool allocator_owns(uintptr_t pc) { return pc - owner_low < owner_high - owner_low; }

void allocator_set_owner(uintptr_t low, uintptr_t high)
{
	owner_low = low;
	owner_high = high;
}

static uintptr_t arenas_low, arenas_high;
static size_t arena_bytes; // 0: none known

bool allocator_is_arena(uintptr_t pc, size_t bytes)
{
	return bytes == load_acquire(&arena_bytes) && pc - arenas_low < arenas_high - arenas_low; // pairs with the release below
}

void allocator_set_arenas(uintptr_t low, uintptr_t high, size_t bytes)
{
	arenas_low = low;
	arenas_high = high;
	store_release(&arena_bytes, bytes);
}

void allocator_resolve(void)
{
	static const struct {
		const char *name;
		size_t offset;
		void (*absent)(void);
	} names[] = {
#define NAME(f, absent) {#f, offsetof(struct allocator, f), (void (*)(void))(absent)}
	    NAME(malloc, absent_malloc),   NAME(free, absent_free),         NAME(calloc, no_memory),
	    NAME(realloc, no_memory),      NAME(reallocarray, no_memory),   NAME(posix_memalign, no_memory),
	    NAME(aligned_alloc, no_memory), NAME(memalign, no_memory),      NAME(valloc, no_memory),
	    NAME(pvalloc, no_memory),      NAME(malloc_usable_size, no_memory), NAME(mmap, no_memory),
	    NAME(munmap, no_memory),       NAME(mremap, no_memory),         NAME(dlclose, absent_dlclose),
	    NAME(unshare, not_there),      NAME(setns, not_there),          NAME(dlsym, absent_dlsym),     NAME(pthread_create, absent_pthread_create),
#undef NAME
	};
	uintptr_t self = (uintptr_t)&allocator_resolve;
	static bool resolved; // once: an allocator that comes later is not the process's
	if (resolved)
		return;
	resolved = true;
	bool preloaded = elf_next_symbol(self, "gnu_get_libc_version") != 0; // in front of the C library
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		// Preloaded: the next behind us, for wrappers in front of us may call us for it. Imported: the first of all, to
		// which the loader bound everybody.
		uintptr_t at = preloaded ? elf_next_symbol(self, names[i].name) : elf_global_symbol(names[i].name);
		// Relaxed: two threads resolving at once store the same values.
		store_relaxed((uintptr_t *)(void *)((char *)&real + names[i].offset), at ? at : (uintptr_t)names[i].absent);
	}
}
