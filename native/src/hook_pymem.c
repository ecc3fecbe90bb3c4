// hook_pymem.c -- Python's own allocators
//
// Context:   hot or sampled.
// Invariant: a block is counted once: by pymalloc's hook here if it is cut from an arena, by malloc's if pymalloc passes
//            the request on. Arenas are not counted beside what is cut from them.
// Why:       pymalloc serves 20 times the requests that malloc does, nearly all of them small: they have an interval
//            and a countdown of their own (counter.h). A request passed on only leaves its domain for malloc's
//            hook to find, and so does one to domain RAW, which needs no GIL: the countdown there is the thread's.
// Proof:     tests/integration/test_python_domains.py
#include "hook_pymem.h"

#include "bitmap.h"
#include "ledger.h"
#include "mappings.h"
#include "pyframes.h"
#include "tracer.h"
#include "tracer_gate.h"
#include "tracer_take.h"

struct hook_pymem_place hook_pymem_place[HOOK_PYMEM_DOMAINS][HOOK_PYMEM_PLACES];
struct pymem_arenas hook_pymem_arenas_behind;

static void (*when_arena_comes)(void);

// ---- a request that pymalloc passes on --------------------------------------------------------------

static inline bool is_passed_on(const struct hook_pymem_place *place, size_t bytes) { return bytes - place->least >= place->sizes; }

// True: nothing is to be left for malloc's hook. A hook further out has left its domain, or asks whether we are called; or
// what comes by domain RAW is one of malloc's requests like others.
static inline bool is_no_matter(const struct hook_pymem_place *place)
{
	if (likely(!sampler_self.hint))
		return place->domain == MLF_DOMAIN_PYMEM_RAW && !load_relaxed(&tracer_gate.native_off);
	if (sampler_self.hint == HOOK_PYMEM_ASKED(place->domain))
		sampler_self.hint = HOOK_PYMEM_ANSWERED;
	return true;
}

static NOINLINE void *malloc_passed_on(const struct hook_pymem_place *place, void *context, size_t bytes)
{
	if (is_no_matter(place))
		return place->original.malloc(context, bytes);
	sampler_self.hint = (uint8_t)place->domain;
	void *p = place->original.malloc(context, bytes);
	sampler_self.hint = 0;
	return p;
}

static NOINLINE void *calloc_passed_on(const struct hook_pymem_place *place, void *context, size_t n, size_t each)
{
	if (is_no_matter(place))
		return place->original.calloc(context, n, each);
	sampler_self.hint = (uint8_t)place->domain;
	void *p = place->original.calloc(context, n, each);
	sampler_self.hint = 0;
	return p;
}

static NOINLINE void *realloc_passed_on(const struct hook_pymem_place *place, void *context, void *old, size_t bytes)
{
	if (is_no_matter(place))
		return place->original.realloc(context, old, bytes);
	sampler_self.hint = (uint8_t)place->domain;
	void *p = place->original.realloc(context, old, bytes);
	sampler_self.hint = 0;
	return p;
}

// ---- sampled -------------------------------------------------------------------------------------

static NOINLINE void *malloc_sampling(const struct hook_pymem_place *place, void *context, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = tracer_take_python();
	void *p = place->original.malloc(context, bytes);
	if (unlikely(weight) && p)
		tracer_allocated(p, bytes, weight, MLF_LAYER_PYMEM, place->domain, &caller);
	return p;
}

static NOINLINE void *calloc_sampling(const struct hook_pymem_place *place, void *context, size_t n, size_t each)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = tracer_take_python();
	void *p = place->original.calloc(context, n, each);
	if (unlikely(weight) && p)
		tracer_allocated(p, n * each, weight, MLF_LAYER_PYMEM, place->domain, &caller);
	return p;
}

// A block that shrinks may stay malloc's: then malloc's hook has seen the call. Other calls of malloc on the way (a tool's
// note of the block, pymalloc's table of arenas) say nothing.
static inline void *realloc_marked(const struct hook_pymem_place *place, void *context, void *old, size_t bytes)
{
	uint8_t outer = sampler_self.hint;
	sampler_self.reallocated = (uint16_t)(sampler_block_mark(old) + 1); // lies behind it, so it is none of those
	sampler_self.hint = (uint8_t)(place->domain | SAMPLER_HINT_REALLOC);
	void *p = place->original.realloc(context, old, bytes);
	sampler_self.hint = outer;
	return p;
}

static NOINLINE void *realloc_sampling(const struct hook_pymem_place *place, void *context, void *old, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = tracer_take_python();
	void *p = realloc_marked(place, context, old, bytes);
	if (unlikely(weight) && p && !sampler_was_reallocated(old))
		tracer_allocated(p, bytes, weight, MLF_LAYER_PYMEM, place->domain, &caller);
	return p;
}

static NOINLINE void *realloc_sampled(const struct hook_pymem_place *place, void *context, void *old, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	struct tracer_moving moving;
	bool passed_on = is_passed_on(place, bytes);
	uint32_t weight = passed_on || counter_pass_hot(&tracer_python) ? 0 : tracer_take_python();
	tracer_moving(old, MLF_LAYER_PYMEM, &moving);
	void *p = passed_on ? realloc_passed_on(place, context, old, bytes) : realloc_marked(place, context, old, bytes);
	if (p)
		tracer_moved(&moving, p, bytes, sampler_was_reallocated(old) ? 0 : weight, MLF_LAYER_PYMEM, place->domain, &caller);
	else
		tracer_move_failed(old, MLF_LAYER_PYMEM, &moving);
	return p;
}

static NOINLINE void free_sampled(const struct hook_pymem_place *place, void *context, void *p)
{
	tracer_freeing(p, MLF_LAYER_PYMEM);
	place->original.free(context, p);
}

// ---- the hooks -----------------------------------------------------------------------------------

#define HOOKS(domain, number)                                                                                \
	static void *malloc_##domain##_##number(void *context, size_t bytes)                                 \
	{                                                                                                    \
		const struct hook_pymem_place *place = &hook_pymem_place[domain][number];                    \
		if (unlikely(is_passed_on(place, bytes)))                                                    \
			return malloc_passed_on(place, context, bytes);                                      \
		if (likely(counter_pass_hot(&tracer_python)))                                                      \
			return place->original.malloc(context, bytes);                                       \
		return malloc_sampling(place, context, bytes);                                               \
	}                                                                                                    \
	static void *calloc_##domain##_##number(void *context, size_t n, size_t each)                        \
	{                                                                                                    \
		const struct hook_pymem_place *place = &hook_pymem_place[domain][number];                    \
		size_t bytes;                                                                                \
		if (unlikely(__builtin_mul_overflow(n, each, &bytes) || is_passed_on(place, bytes)))         \
			return calloc_passed_on(place, context, n, each);                                    \
		if (likely(counter_pass_hot(&tracer_python)))                                                      \
			return place->original.calloc(context, n, each);                                     \
		return calloc_sampling(place, context, n, each);                                             \
	}                                                                                                    \
	static void *realloc_##domain##_##number(void *context, void *old, size_t bytes)                     \
	{                                                                                                    \
		const struct hook_pymem_place *place = &hook_pymem_place[domain][number];                    \
		if (unlikely(bitmap_test_hot(old)))                                                          \
			return realloc_sampled(place, context, old, bytes);                                  \
		if (unlikely(is_passed_on(place, bytes)))                                                    \
			return realloc_passed_on(place, context, old, bytes);                                \
		if (likely(counter_pass_hot(&tracer_python)))                                                      \
			return realloc_marked(place, context, old, bytes);                                   \
		return realloc_sampling(place, context, old, bytes);                                         \
	}                                                                                                    \
	static void free_##domain##_##number(void *context, void *p)                                         \
	{                                                                                                    \
		const struct hook_pymem_place *place = &hook_pymem_place[domain][number];                    \
		if (likely(!bitmap_test_hot(p))) {                                                           \
			place->original.free(context, p);                                                    \
			return;                                                                              \
		}                                                                                            \
		free_sampled(place, context, p);                                                             \
	}

#define RAW_HOOKS(domain, number)                                                                            \
	static void *malloc_##domain##_##number(void *context, size_t bytes)                                 \
	{                                                                                                    \
		return malloc_passed_on(&hook_pymem_place[domain][number], context, bytes);                  \
	}                                                                                                    \
	static void *calloc_##domain##_##number(void *context, size_t n, size_t each)                        \
	{                                                                                                    \
		return calloc_passed_on(&hook_pymem_place[domain][number], context, n, each);                \
	}                                                                                                    \
	static void *realloc_##domain##_##number(void *context, void *old, size_t bytes)                     \
	{                                                                                                    \
		return realloc_passed_on(&hook_pymem_place[domain][number], context, old, bytes);            \
	}

#define EACH_PLACE(X, domain) X(domain, 0) X(domain, 1) X(domain, 2) X(domain, 3)
EACH_PLACE(RAW_HOOKS, HOOK_PYMEM_RAW)
EACH_PLACE(HOOKS, HOOK_PYMEM_MEM)
EACH_PLACE(HOOKS, HOOK_PYMEM_OBJ)

#define FUNCTIONS(domain, number, its_free)                                                                  \
	[domain][number] = {NULL, malloc_##domain##_##number, calloc_##domain##_##number,                    \
			    realloc_##domain##_##number, its_free},
#define RAW_FUNCTIONS(domain, number) FUNCTIONS(domain, number, NULL)
#define ALL_FUNCTIONS(domain, number) FUNCTIONS(domain, number, free_##domain##_##number)
const struct pymem_allocator hook_pymem_functions[HOOK_PYMEM_DOMAINS][HOOK_PYMEM_PLACES] = {
    EACH_PLACE(RAW_FUNCTIONS, HOOK_PYMEM_RAW) EACH_PLACE(ALL_FUNCTIONS, HOOK_PYMEM_MEM)
	EACH_PLACE(ALL_FUNCTIONS, HOOK_PYMEM_OBJ)};

// ---- arenas --------------------------------------------------------------------------------------

// What is cut from an arena is counted here. The interpreter's other chunks (the frames of Python functions, 16 KiB each) are
// mappings; the larger ones come by mmap's hook.
static void *arena_alloc(void *unused, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	const struct pymem_arenas *behind = &hook_pymem_arenas_behind;
	(void)unused;
	if (bytes != pyframes_arena_bytes() || !pyframes_is_allowed()) {
		void *chunk = behind->alloc(behind->context, bytes);
		if (chunk && bytes < TRACER_MMAP_ALWAYS)
			tracer_mapped(chunk, bytes, &caller);
		return chunk;
	}
	uint8_t was_busy = sampler_self.busy;
	sampler_self.busy = SAMPLER_NOT_THE_PROGRAM;
	void *p = behind->alloc(behind->context, bytes);
	if (p)
		ledger_python_arena((long)bytes);
	if (when_arena_comes)
		when_arena_comes();
	sampler_self.busy = was_busy;
	return p;
}

// The larger ones go by munmap's hook.
static void arena_free(void *unused, void *p, size_t bytes)
{
	struct mappings_cut unmapped;
	(void)unused;
	pyframes_await_readers(); // frames may be in it, of a thread that the interpreter's end has taken by surprise
	if (bytes < TRACER_MMAP_ALWAYS)
		tracer_unmapping(p, bytes, &unmapped);
	if (bytes == pyframes_arena_bytes())
		ledger_python_arena(-(long)bytes);
	hook_pymem_arenas_behind.free(hook_pymem_arenas_behind.context, p, bytes);
}

const struct pymem_arenas hook_pymem_arenas = {NULL, arena_alloc, arena_free};

void hook_pymem_when_arena_comes(void (*call)(void)) { when_arena_comes = call; }
