// hook_pymem.c -- Python's own allocators
//
// Context:   the hooks are hot or sampled; wrapping is cold and holds the GIL.
// Invariant: a block is counted once: by pymalloc's hook here if it is cut from an arena, by malloc's if pymalloc passes
//            the request on. Which of the two is found out by trying, so that debug hooks and PYTHONMALLOC change
//            nothing. Arenas are not counted beside what is cut from them.
// Why:       pymalloc serves 20 times the requests that malloc does, nearly all of them small: they have an interval
//            and a countdown of their own (counter.h). A request passed on only leaves its domain for malloc's
//            hook to find.
// Proof:     tests/integration/test_python_domains.py
#include "hook_pymem.h"

#include "bitmap.h"
#include "counter.h"
#include "elfimage.h"
#include "modules.h"
#include "pyframes.h"
#include "tracer.h"

#include <link.h>

struct allocator_ex { // PyMemAllocatorEx
	void *context;
	void *(*malloc)(void *, size_t);
	void *(*calloc)(void *, size_t, size_t);
	void *(*realloc)(void *, void *, size_t);
	void (*free)(void *, void *);
};

struct arena_allocator { // PyObjectArenaAllocator
	void *context;
	void *(*alloc)(void *, size_t);
	void (*free)(void *, void *, size_t);
};

// One that was put in front of something stays as it is: another tool may have kept it, and put it back.
static struct wrapped {
	struct allocator_ex original; // .malloc NULL: not used yet
	size_t least, sizes; // requests of `least` and the following `sizes` - 1 bytes are cut from an arena
	enum mlf_domain domain;
	bool tried;  // these were found out by trying
} wrapped[2][4]; // by domain
#define DOMAINS ARRAY_LEN(wrapped)
#define DOMAIN_MEM 1 // PYMEM_DOMAIN_MEM, and OBJ behind it
#define MOST_IN_ARENA 512U // pymalloc's own limit in every version
static const enum mlf_domain names[DOMAINS] = {MLF_DOMAIN_PYMALLOC_MEM, MLF_DOMAIN_PYMALLOC_OBJ};
static struct arena_allocator arenas;

static void (*when_arena_comes)(void);

static struct counter counter;
static uint32_t passed_on; // calls that did not count down; with the GIL

// ---- a request that pymalloc passes on --------------------------------------------------------------

static inline bool is_passed_on(const struct wrapped *w, size_t bytes) { return bytes - w->least >= w->sizes; }

static NOINLINE void *malloc_passed_on(struct wrapped *w, size_t bytes)
{
	passed_on++;
	sampler_self.hint = (uint8_t)w->domain;
	void *p = w->original.malloc(w->original.context, bytes);
	sampler_self.hint = 0;
	return p;
}

static NOINLINE void *calloc_passed_on(struct wrapped *w, size_t n, size_t each)
{
	sampler_self.hint = (uint8_t)w->domain;
	void *p = w->original.calloc(w->original.context, n, each);
	sampler_self.hint = 0;
	return p;
}

static NOINLINE void *realloc_passed_on(struct wrapped *w, void *old, size_t bytes)
{
	sampler_self.hint = (uint8_t)w->domain;
	void *p = w->original.realloc(w->original.context, old, bytes);
	sampler_self.hint = 0;
	return p;
}

// ---- sampled -------------------------------------------------------------------------------------

static NOINLINE void *malloc_sampling(struct wrapped *w, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = tracer_take_python(&counter);
	void *p = w->original.malloc(w->original.context, bytes);
	if (unlikely(weight) && p)
		tracer_allocated(p, bytes, weight, MLF_LAYER_PYMEM, w->domain, &caller);
	return p;
}

static NOINLINE void *calloc_sampling(struct wrapped *w, size_t n, size_t each)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = tracer_take_python(&counter);
	void *p = w->original.calloc(w->original.context, n, each);
	if (unlikely(weight) && p)
		tracer_allocated(p, n * each, weight, MLF_LAYER_PYMEM, w->domain, &caller);
	return p;
}

// A block that shrinks may stay malloc's: then malloc's hook has seen the call. Other calls of malloc on the way (a tool's
// note of the block, pymalloc's table of arenas) say nothing.
static inline void *call_realloc(struct wrapped *w, void *old, size_t bytes)
{
	sampler_self.reallocated = (uint16_t)(sampler_block_mark(old) + 1); // lies behind it, so it is none of those
	sampler_self.hint = (uint8_t)(w->domain | SAMPLER_HINT_REALLOC);
	void *p = w->original.realloc(w->original.context, old, bytes);
	sampler_self.hint = 0;
	return p;
}

static NOINLINE void *realloc_sampling(struct wrapped *w, void *old, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = tracer_take_python(&counter);
	void *p = call_realloc(w, old, bytes);
	if (unlikely(weight) && p && !sampler_was_reallocated(old))
		tracer_allocated(p, bytes, weight, MLF_LAYER_PYMEM, w->domain, &caller);
	return p;
}

static NOINLINE void *realloc_sampled(struct wrapped *w, void *old, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	struct tracer_moving moving;
	bool passed_on = is_passed_on(w, bytes);
	uint32_t weight = passed_on || counter_pass_hot(&counter) ? 0 : tracer_take_python(&counter);
	tracer_moving(old, MLF_LAYER_PYMEM, &moving);
	void *p = passed_on ? realloc_passed_on(w, old, bytes) : call_realloc(w, old, bytes);
	if (p)
		tracer_moved(&moving, p, bytes, sampler_was_reallocated(old) ? 0 : weight, MLF_LAYER_PYMEM, w->domain, &caller);
	else
		tracer_move_failed(old, MLF_LAYER_PYMEM, &moving);
	return p;
}

static NOINLINE void free_sampled(struct wrapped *w, void *p)
{
	tracer_freeing(p, MLF_LAYER_PYMEM);
	w->original.free(w->original.context, p);
}

// ---- the hooks -----------------------------------------------------------------------------------

static void *py_malloc(void *context, size_t bytes)
{
	struct wrapped *w = context;
	if (unlikely(is_passed_on(w, bytes)))
		return malloc_passed_on(w, bytes);
	if (likely(counter_pass_hot(&counter)))
		return w->original.malloc(w->original.context, bytes);
	return malloc_sampling(w, bytes);
}

static void *py_calloc(void *context, size_t n, size_t each)
{
	struct wrapped *w = context;
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(n, each, &bytes) || is_passed_on(w, bytes)))
		return calloc_passed_on(w, n, each);
	if (likely(counter_pass_hot(&counter)))
		return w->original.calloc(w->original.context, n, each);
	return calloc_sampling(w, n, each);
}

static void *py_realloc(void *context, void *old, size_t bytes)
{
	struct wrapped *w = context;
	if (unlikely(bitmap_test_hot(old)))
		return realloc_sampled(w, old, bytes);
	if (unlikely(is_passed_on(w, bytes)))
		return realloc_passed_on(w, old, bytes);
	if (likely(counter_pass_hot(&counter)))
		return call_realloc(w, old, bytes);
	return realloc_sampling(w, old, bytes);
}

static void py_free(void *context, void *p)
{
	struct wrapped *w = context;
	if (likely(!bitmap_test_hot(p))) {
		w->original.free(w->original.context, p);
		return;
	}
	free_sampled(w, p);
}

// What is cut from an arena is counted here; the interpreter's other chunks (frames of deep recursion) as mappings.
static void *arena_alloc(void *unused, size_t bytes)
{
	(void)unused;
	if (bytes != pyframes_arena_bytes())
		return arenas.alloc(arenas.context, bytes);
	uint8_t was_busy = sampler_self.busy;
	sampler_self.busy = SAMPLER_NOT_THE_PROGRAM;
	void *p = arenas.alloc(arenas.context, bytes);
	if (when_arena_comes)
		when_arena_comes();
	sampler_self.busy = was_busy;
	return p;
}

static void arena_free(void *unused, void *p, size_t bytes)
{
	(void)unused;
	arenas.free(arenas.context, p, bytes);
}

void hook_pymem_when_arena_comes(void (*call)(void)) { when_arena_comes = call; }

// ---- wrapping ------------------------------------------------------------------------------------

static struct {
	void (*get)(int, struct allocator_ex *);
	void (*set)(int, struct allocator_ex *);
	void (*get_arena)(struct arena_allocator *);
	void (*set_arena)(struct arena_allocator *);
} api;

static int find_functions(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)info, (void)bytes, (void)context;
	api.set = (void (*)(int, struct allocator_ex *))elf_global_symbol("PyMem_SetAllocator");
	api.get_arena = (void (*)(struct arena_allocator *))elf_global_symbol("PyObject_GetArenaAllocator");
	api.set_arena = (void (*)(struct arena_allocator *))elf_global_symbol("PyObject_SetArenaAllocator");
	api.get = (void (*)(int, struct allocator_ex *))elf_global_symbol("PyMem_GetAllocator");
	return 1;
}

// Does the allocator behind our hook pass such a request on to malloc?
static bool try_passes_on(const struct allocator_ex *a, size_t bytes)
{
	struct tracer_probe probe = tracer_probe_begin();
	void *p = a->malloc(a->context, bytes);
	bool passed_on = tracer_probe_end(&probe, p);
	a->free(a->context, p);
	return passed_on || !p;
}

static void find_sizes(struct wrapped *w)
{
	size_t low = 0, high = MOST_IN_ARENA;
	while (low < high) {
		size_t middle = (low + high + 1) / 2;
		if (try_passes_on(&w->original, middle))
			high = middle - 1;
		else
			low = middle;
	}
	// pymalloc passes on requests for nothing, unless a hook between us and it makes them larger.
	w->least = try_passes_on(&w->original, 0);
	w->sizes = low + 1 - w->least;
	w->tried = true;
}

// Does a call of what is in front now come by a hook of ours?
static bool comes_by(const struct allocator_ex *front)
{
	enum { FAR = 1 << 20 };
	int32_t left = counter.calls_left;
	uint32_t before = passed_on;
	counter.calls_left = FAR;
	front->free(front->context, front->malloc(front->context, 16));
	bool counted = counter.calls_left != FAR;
	counter.calls_left = left;
	return counted || passed_on != before;
}

// Ours for this original: the one that was in front of it before, or a new one; NULL if there are too many.
static struct wrapped *wrapped_for(unsigned domain, const struct allocator_ex *original)
{
	for (unsigned i = 0; i < ARRAY_LEN(wrapped[0]); i++) {
		struct wrapped *w = &wrapped[domain][i];
		if (!w->original.malloc)
			*w = (struct wrapped){.original = *original, .least = 1, .sizes = MOST_IN_ARENA, .domain = names[domain]};
		if (w->original.malloc == original->malloc && w->original.context == original->context)
			return w;
	}
	return NULL;
}

// True: our hook was gone.
static bool wrap_domain(unsigned domain, bool initialised)
{
	struct allocator_ex front;
	api.get(DOMAIN_MEM + (int)domain, &front);
	bool ours = front.malloc == py_malloc;
	if (!ours && initialised && comes_by(&front))
		return false; // somebody stands in front of us
	struct wrapped *w = ours ? front.context : wrapped_for(domain, &front);
	if (!w)
		return false;
	if (initialised && !w->tried)
		find_sizes(w);
	if (!ours)
		api.set(DOMAIN_MEM + (int)domain, &(struct allocator_ex){w, py_malloc, py_calloc, py_realloc, py_free});
	return !ours;
}

enum hook_pymem_found hook_pymem_wrap(bool initialised)
{
	static bool before;
	if (!api.get)
		dl_iterate_phdr(find_functions, NULL);
	if (!api.get || !api.set || !api.get_arena || !api.set_arena)
		return HOOK_PYMEM_NONE;
	bool gone = false, first = !before;
	for (unsigned domain = 0; domain < DOMAINS; domain++)
		gone |= wrap_domain(domain, initialised);
	before = true;
	struct arena_allocator now;
	api.get_arena(&now);
	// An interpreter that is begun again has forgotten our function (3.12 and later). In front of somebody else's, who may
	// call ours, it is not put again.
	if (now.alloc != arena_alloc && (!arenas.alloc || (now.alloc == arenas.alloc && now.context == arenas.context))) {
		arenas = now;
		api.set_arena(&(struct arena_allocator){NULL, arena_alloc, arena_free});
	}
	return gone && !first ? HOOK_PYMEM_WAS_GONE : HOOK_PYMEM_IN_PLACE;
}
