// hook_malloc.c -- the malloc family and mappings, as the preload door exports and the import door patches them in
//
// Context:   hot. Each function decides in a few instructions and jumps to the allocator; everything
//            else is behind a call marked NOINLINE.
// Invariant: meaning, errno and alignment are the allocator's own. A slow path is entered by a tail
//            jump, so its return address is the program's: REGISTERS_OF_CALLER() relies on that
//            (tests/integration/test_preload.py fails if a compiler stops doing so).
// Why:       malloc + free cost 18 instructions over stock (benchmarks/hook_fastpath.py).
// Proof:     tests/integration/test_preload.py, test_hot_path.py (its length); tests/models/order.pml
#include "hook_malloc.h"

#include "allocator.h"
#include "bitmap.h"
#include "ledger.h"
#include "mappings.h"
#include "owners.h"
#include "pools.h"
#include "pyframes.h"
#include "slots.h"
#include "tracer.h"
#include "tracer_gate.h"
#include "tracer_take.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

static enum mlf_domain domain_of_hint(unsigned hint) { return hint ? (enum mlf_domain)hint : MLF_DOMAIN_MALLOC; }

static enum mlf_domain domain_now(void)
{
	return domain_of_hint(sampler_self.hint & SAMPLER_HINT_REALLOC ? 0 : sampler_self.hint);
}

static enum mlf_domain domain_of_realloc(void) { return domain_of_hint(sampler_self.hint & ~SAMPLER_HINT_REALLOC); }

#define SAMPLE(p, bytes, weight, domain, caller)                                                    \
	do {                                                                                       \
		if (unlikely(weight) && likely((p) != NULL))                                       \
			tracer_allocated((p), (bytes), (weight), MLF_LAYER_MALLOC, (domain), &(caller)); \
	} while (0)
#define MALLOC_SAMPLE(p, bytes, weight, caller) SAMPLE(p, bytes, weight, domain_now(), caller)

// ---- malloc, calloc, free ------------------------------------------------------------------------

static NOINLINE void *malloc_sampling(size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = tracer_take(bytes);
	void *p = real.malloc(bytes);
	MALLOC_SAMPLE(p, bytes, weight, caller);
	return p;
}

static NOINLINE void *malloc_slow(size_t bytes)
{
	if (likely(tracer_look_hot(bytes)))
		return real.malloc(bytes);
	return malloc_sampling(bytes);
}

EXPORT void *malloc(size_t bytes)
{
	if (likely(sampler_pass_hot(bytes)))
		return real.malloc(bytes);
	return malloc_slow(bytes);
}

static NOINLINE void *calloc_sampling(size_t n, size_t each)
{
	struct registers caller = REGISTERS_OF_CALLER();
	size_t bytes = n * each; // does not overflow, see calloc()
	uint32_t weight = tracer_take(bytes);
	void *p = real.calloc(n, each);
	MALLOC_SAMPLE(p, bytes, weight, caller);
	return p;
}

static NOINLINE void *calloc_slow(size_t n, size_t each)
{
	if (likely(tracer_look_hot(n * each)))
		return real.calloc(n, each);
	return calloc_sampling(n, each);
}

// Fails there, with its own errno.
static NOINLINE void *calloc_overflow(size_t n, size_t each) { return real.calloc(n, each); }

EXPORT void *calloc(size_t n, size_t each)
{
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(n, each, &bytes)))
		return calloc_overflow(n, each);
	if (likely(sampler_pass_hot(bytes)))
		return real.calloc(n, each);
	return calloc_slow(n, each);
}

OWN_NAME(free);

static NOINLINE void free_sampled(void *p)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t *inside = tracer_enter();
	if (likely(inside)) {
		owners_freeing(p, (uintptr_t)&own_free, &caller);
		tracer_leave(inside);
	}
	real.free(p);
}

EXPORT void free(void *p)
{
	if (likely(!bitmap_test_hot(p))) {
		real.free(p);
		return;
	}
	free_sampled(p);
}

// ---- realloc -------------------------------------------------------------------------------------

static NOINLINE void *realloc_sampling(void *old, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = tracer_take(bytes);
	void *p = real.realloc(old, bytes);
	SAMPLE(p, bytes, weight, domain_of_realloc(), caller);
	return p;
}

static NOINLINE void *realloc_slow(void *old, size_t bytes)
{
	if (likely(tracer_look_hot(bytes)))
		return real.realloc(old, bytes);
	return realloc_sampling(old, bytes);
}

// Who has got its memory meanwhile has not told of a pool in there before we are done: pools are told of by hand.
static void note_moved(const void *old)
{
	uint32_t *inside = tracer_enter();
	if (!inside)
		return;
	owners_moved(old);
	tracer_leave(inside);
}

static NOINLINE void *realloc_sampled(void *old, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	struct tracer_moving moving;
	uint32_t weight = sampler_pass_hot(bytes) ? 0 : tracer_take(bytes);
	tracer_moving(old, MLF_LAYER_MALLOC, &moving);
	void *p = real.realloc(old, bytes);
	if (p || bytes == 0) { // realloc(p, 0) may free and return NULL
		tracer_moved(&moving, p, bytes, p ? weight : 0, MLF_LAYER_MALLOC, domain_of_realloc(), &caller);
		if (unlikely(pools_any()) && p != old)
			note_moved(old);
	} else {
		tracer_move_failed(old, MLF_LAYER_MALLOC, &moving);
	}
	return p;
}

EXPORT void *realloc(void *old, size_t bytes)
{
	sampler_self.reallocated = sampler_block_mark(old);
	if (unlikely(bitmap_test_hot(old)))
		return realloc_sampled(old, bytes);
	if (likely(sampler_pass_hot(bytes)))
		return real.realloc(old, bytes);
	return realloc_slow(old, bytes);
}

// glibc's reallocarray calls realloc through its own slot, which would count twice; what it does is this.
EXPORT void *reallocarray(void *old, size_t n, size_t each)
{
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(n, each, &bytes))) {
		errno = ENOMEM;
		return NULL;
	}
	if (unlikely(bitmap_test_hot(old)))
		return realloc_sampled(old, bytes);
	if (likely(sampler_pass_hot(bytes)))
		return real.realloc(old, bytes);
	return realloc_slow(old, bytes);
}

// ---- the aligned ones ------------------------------------------------------------------------------

static NOINLINE int posix_memalign_slow(void **out, size_t alignment, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = tracer_take(bytes);
	int error = real.posix_memalign(out, alignment, bytes);
	if (error == 0)
		MALLOC_SAMPLE(*out, bytes, weight, caller);
	return error;
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t bytes)
{
	if (likely(sampler_pass_hot(bytes)))
		return real.posix_memalign(out, alignment, bytes);
	return posix_memalign_slow(out, alignment, bytes);
}

// Functions of (alignment, bytes) and of (bytes) alone, alike but for the name.
#define HOOK_ALIGNED(name)                                                                         \
	static NOINLINE void *name##_slow(size_t alignment, size_t bytes)                          \
	{                                                                                          \
		struct registers caller = REGISTERS_OF_CALLER();                                   \
		uint32_t weight = tracer_take(bytes);                                              \
		void *p = real.name(alignment, bytes);                                             \
		MALLOC_SAMPLE(p, bytes, weight, caller);                                           \
		return p;                                                                          \
	}                                                                                          \
	EXPORT void *name(size_t alignment, size_t bytes)                                          \
	{                                                                                          \
		if (likely(sampler_pass_hot(bytes)))                                               \
			return real.name(alignment, bytes);                                        \
		return name##_slow(alignment, bytes);                                              \
	}
HOOK_ALIGNED(aligned_alloc)
HOOK_ALIGNED(memalign)

#define HOOK_PAGED(name)                                                                           \
	static NOINLINE void *name##_slow(size_t bytes)                                            \
	{                                                                                          \
		struct registers caller = REGISTERS_OF_CALLER();                                   \
		uint32_t weight = tracer_take(bytes);                                              \
		void *p = real.name(bytes);                                                        \
		MALLOC_SAMPLE(p, bytes, weight, caller);                                           \
		return p;                                                                          \
	}                                                                                          \
	EXPORT void *name(size_t bytes)                                                            \
	{                                                                                          \
		if (likely(sampler_pass_hot(bytes)))                                               \
			return real.name(bytes);                                                   \
		return name##_slow(bytes);                                                         \
	}
HOOK_PAGED(valloc)
HOOK_PAGED(pvalloc)

// Addresses are the allocator's own, so this asks it; exported so that the family stays together
// whatever the order of objects in the global scope.
EXPORT size_t malloc_usable_size(void *p) { return real.malloc_usable_size(p); }

// ---- mappings --------------------------------------------------------------------------------------

// The kernel refuses what does not begin at a page; then nothing may have been taken apart here.
static bool at_page(const void *p) { return (uintptr_t)p % PAGE_BYTES == 0; }

// Python's arenas that come when its hooks are not in place, at the beginning of an interpreter: what is cut from them
// will be counted.
static bool is_arena(const struct registers *caller, const void *at, size_t bytes, int flags)
{
	return !at && flags == (MAP_PRIVATE | MAP_ANONYMOUS) && allocator_is_arena(caller->pc, bytes) && pyframes_is_allowed();
}

static NOINLINE void *mmap_slow(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	struct registers caller = REGISTERS_OF_CALLER();
	struct mappings_cut replaced = {.count = 0};
	if (flags & MAP_FIXED && bytes && at_page(at))
		tracer_unmapping(at, bytes, &replaced);
	void *p = real.mmap(at, bytes, protection, flags, fd, offset);
	if (p == MAP_FAILED)
		tracer_unmap_failed(&replaced);
	// PROT_NONE reserves addresses, not memory. An allocator's arenas are counted as what is cut from them.
	else if (bytes >= TRACER_MMAP_ALWAYS && protection != PROT_NONE && !allocator_owns(caller.pc)) {
		if (!is_arena(&caller, at, bytes, flags))
			tracer_mapped(p, bytes, &caller);
		else if (!sampler_self.busy) // else it is asked for by our own hook, which counts it
			ledger_python_arena((long)bytes);
	}
	return p;
}

EXPORT void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	if (likely(bytes < TRACER_MMAP_ALWAYS && !(flags & MAP_FIXED)))
		return real.mmap(at, bytes, protection, flags, fd, offset);
	return mmap_slow(at, bytes, protection, flags, fd, offset);
}
EXPORT void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));

EXPORT int munmap(void *at, size_t bytes)
{
	struct mappings_cut unmapped;
	if (!at_page(at) || bytes == 0)
		return real.munmap(at, bytes); // EINVAL
	tracer_unmapping(at, bytes, &unmapped);
	int result = real.munmap(at, bytes);
	if (unlikely(result < 0))
		tracer_unmap_failed(&unmapped);
	return result;
}

static NOINLINE void *mremap_slow(void *old, size_t old_bytes, size_t bytes, int flags, void *wanted)
{
	struct registers caller = REGISTERS_OF_CALLER();
	struct mappings_cut moved = {.count = 0}, replaced = {.count = 0};
	if (old_bytes && at_page(old)) // 0 duplicates a shared mapping and leaves the old one
		tracer_unmapping(old, old_bytes, &moved);
	if (flags & MREMAP_FIXED && bytes && at_page(wanted))
		tracer_unmapping(wanted, bytes, &replaced);
	void *p = real.mremap(old, old_bytes, bytes, flags, wanted);
	if (p == MAP_FAILED) {
		tracer_unmap_failed(&moved);
		tracer_unmap_failed(&replaced);
	} else if (bytes >= TRACER_MMAP_ALWAYS && (moved.count || old_bytes < TRACER_MMAP_ALWAYS) && !allocator_owns(caller.pc)) {
		tracer_mapped(p, bytes, &caller);
	}
	return p;
}

EXPORT void *mremap(void *old, size_t old_bytes, size_t bytes, int flags, ...)
{
	__builtin_va_list arguments;
	__builtin_va_start(arguments, flags);
	void *wanted = flags & MREMAP_FIXED ? __builtin_va_arg(arguments, void *) : NULL;
	__builtin_va_end(arguments);
	return mremap_slow(old, old_bytes, bytes, flags, wanted);
}

// ---- for slots ---------------------------------------------------------------------------------------

// Our own functions whatever the loader binds the names to: in a process that imported us that is the C library.
OWN_NAME(malloc);
OWN_NAME(calloc);
OWN_NAME(realloc);
OWN_NAME(reallocarray);
OWN_NAME(posix_memalign);
OWN_NAME(aligned_alloc);
OWN_NAME(memalign);
OWN_NAME(valloc);
OWN_NAME(pvalloc);
OWN_NAME(malloc_usable_size);
OWN_NAME(mmap);
OWN_NAME(munmap);
OWN_NAME(mremap);

#define NAME(name, f, watched) {#name, (uintptr_t)&own_##f, (const uintptr_t *)(const void *)&real.f, watched}
#define SAME(f) NAME(f, f, false)
#define WATCHED(f) NAME(f, f, true)

void hook_malloc_register(void)
{
	static const struct slots_name family[] = {
	    SAME(malloc),   SAME(calloc),        SAME(realloc),  SAME(reallocarray), WATCHED(free), SAME(posix_memalign),
	    SAME(memalign), SAME(aligned_alloc), SAME(valloc),   SAME(pvalloc),      SAME(malloc_usable_size),
	};
	static const struct slots_name mappings[] = {SAME(mmap), NAME(mmap64, mmap, false), SAME(munmap), SAME(mremap)};
	static struct slots_table tables[] = {
	    {.names = family, .count = ARRAY_LEN(family), .meaning = SLOTS_FAMILY},
	    {.names = mappings, .count = ARRAY_LEN(mappings), .meaning = SLOTS_MAPPINGS},
	};
	slots_register(&tables[0]);
	slots_register(&tables[1]);
}
