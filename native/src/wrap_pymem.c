// wrap_pymem.c -- putting our hooks in front of Python's allocators, and back there
//
// Context:   cold, with the GIL or before there is an interpreter.
// Invariant: a hook is put only where a call does not come by one already; what stands there is called behind it.
// Why:       which requests pymalloc passes on to malloc is found out by trying, so that debug hooks, PYTHONMALLOC and other
//            tools' hooks change nothing.
// Proof:     tests/integration/test_python_domains.py, test_other_tracers.py, test_embedding.py
#include "wrap_pymem.h"

#include "allocator.h"
#include "atomics.h"
#include "hook_pymem.h"
#include "modules.h"
#include "pyframes.h"
#include "pygil.h"
#include "pyruntime.h"
#include "tracer_gate.h"
#include "tracer_probe.h"


static const enum mlf_domain names[HOOK_PYMEM_DOMAINS] = {
    [HOOK_PYMEM_RAW] = MLF_DOMAIN_PYMEM_RAW,
    [HOOK_PYMEM_MEM] = MLF_DOMAIN_PYMALLOC_MEM,
    [HOOK_PYMEM_OBJ] = MLF_DOMAIN_PYMALLOC_OBJ,
};

static struct {
	void (*get)(int, struct pymem_allocator *);
	void (*set)(int, struct pymem_allocator *);
	void (*get_arena)(struct pymem_arenas *);
	void (*set_arena)(struct pymem_arenas *);
	int (*add_pending)(int (*)(void *), void *);
	uintptr_t runtime;
} api;

static void find_functions(void)
{
	api.set = (void (*)(int, struct pymem_allocator *))pyruntime_function("PyMem_SetAllocator");
	api.get_arena = (void (*)(struct pymem_arenas *))pyruntime_function("PyObject_GetArenaAllocator");
	api.set_arena = (void (*)(struct pymem_arenas *))pyruntime_function("PyObject_SetArenaAllocator");
	api.add_pending = (int (*)(int (*)(void *), void *))pyruntime_function("Py_AddPendingCall");
	api.runtime = pyruntime.at;
	api.get = (void (*)(int, struct pymem_allocator *))pyruntime_function("PyMem_GetAllocator");
}

// ---- what is passed on ---------------------------------------------------------------------------

// Does the allocator behind our hook pass such a request on to malloc?
static bool try_passes_on(const struct pymem_allocator *a, size_t bytes)
{
	struct tracer_probe probe = tracer_probe_begin();
	void *p = a->malloc(a->context, bytes);
	bool passed_on = tracer_probe_end(&probe, p);
	a->free(a->context, p);
	return passed_on || !p;
}

static void find_sizes(struct hook_pymem_place *place)
{
	size_t low = 0, high = HOOK_PYMEM_MOST_IN_ARENA;
	while (low < high) {
		size_t middle = (low + high + 1) / 2;
		if (try_passes_on(&place->original, middle))
			high = middle - 1;
		else
			low = middle;
	}
	// pymalloc passes on requests for nothing, unless a hook between us and it makes them larger.
	place->least = try_passes_on(&place->original, 0);
	place->sizes = low + 1 - place->least;
	place->tried = true;
}

// Does a call of what is in front now come by a hook of ours?
static bool comes_by(unsigned domain, const struct pymem_allocator *front)
{
	uint8_t before = sampler_self.hint;
	sampler_self.hint = HOOK_PYMEM_ASKED(names[domain]);
	front->free(front->context, front->malloc(front->context, 8 * HOOK_PYMEM_MOST_IN_ARENA));
	bool answered = sampler_self.hint == HOOK_PYMEM_ANSWERED;
	sampler_self.hint = before;
	return answered;
}

// ---- what stands in front ------------------------------------------------------------------------

// Where the interpreter keeps its function of domain OBJ. A word to look at, because PyMem_GetAllocator() takes a lock from
// 3.12 on, which a thread of ours could hold while another forks.
static const uintptr_t *front_word;
static uintptr_t front_seen;
static bool wrapped; // once at least

// Among the interpreter's data, right after our functions were stored for the first time: nobody else has them yet.
static void find_front(const struct pymem_allocator *hook)
{
	static bool searched;
	if (exchange_acq_rel(&searched, true))
		return;
	unsigned id = modules_find((uintptr_t)api.set);
	const struct elf_image *image = id ? &modules_get(id)->image : NULL;
	for (unsigned i = 0; image && i < image->range_count; i++) {
		const struct elf_range *range = &image->readable[i];
		if (api.runtime < range->low || api.runtime >= range->high)
			continue;
		const uintptr_t *end = (const uintptr_t *)range->high - 4;
		for (const uintptr_t *word = (const uintptr_t *)range->low; word < end; word++)
			if (word[0] == (uintptr_t)hook->malloc && word[1] == (uintptr_t)hook->calloc &&
			    word[2] == (uintptr_t)hook->realloc && word[3] == (uintptr_t)hook->free) {
				store_relaxed(&front_seen, word[0]);
				store_release(&front_word, word); // pairs with wrap_pymem_is_due()
				return;
			}
	}
}

bool wrap_pymem_is_due(void)
{
	const uintptr_t *word = load_acquire(&front_word);
	return word ? load_relaxed(word) != load_relaxed(&front_seen) : !load_relaxed(&wrapped);
}

bool wrap_pymem_ask(int (*call)(void *))
{
	return api.add_pending && pygil_is_initialised() && api.add_pending(call, NULL) == 0;
}

// ---- wrapping ------------------------------------------------------------------------------------

static unsigned place_of(unsigned domain, const struct pymem_allocator *hook)
{
	unsigned i = 0;
	while (i < HOOK_PYMEM_PLACES && hook_pymem_functions[domain][i].malloc != hook->malloc)
		i++;
	return i;
}

// Ours for this original: the one that was in front of it before, or a new one; HOOK_PYMEM_PLACES if there are too many.
static unsigned place_for(unsigned domain, const struct pymem_allocator *original)
{
	for (unsigned i = 0; i < HOOK_PYMEM_PLACES; i++) {
		struct hook_pymem_place *place = &hook_pymem_place[domain][i];
		if (!place->original.malloc)
			*place = (struct hook_pymem_place){
			    .original = *original, .least = 1, .sizes = HOOK_PYMEM_MOST_IN_ARENA, .domain = names[domain]};
		if (place->original.malloc == original->malloc && place->original.context == original->context)
			return i;
	}
	return HOOK_PYMEM_PLACES;
}

// True: our hook was gone.
static bool wrap_domain(unsigned domain, bool initialised)
{
	struct pymem_allocator front;
	api.get((int)domain, &front);
	unsigned ours = place_of(domain, &front);
	if (ours == HOOK_PYMEM_PLACES && initialised && comes_by(domain, &front))
		return false; // somebody stands in front of us
	unsigned i = ours < HOOK_PYMEM_PLACES ? ours : place_for(domain, &front);
	if (i == HOOK_PYMEM_PLACES)
		return false;
	if (initialised && domain != HOOK_PYMEM_RAW && !hook_pymem_place[domain][i].tried)
		find_sizes(&hook_pymem_place[domain][i]);
	if (ours < HOOK_PYMEM_PLACES)
		return false;
	struct pymem_allocator hook = hook_pymem_functions[domain][i];
	hook.context = front.context;
	hook.free = hook.free ? hook.free : front.free;
	api.set((int)domain, &hook);
	if (domain == HOOK_PYMEM_OBJ)
		find_front(&hook);
	return true;
}

static void wrap_arenas(void)
{
	struct pymem_arenas *behind = &hook_pymem_arenas_behind, hook = hook_pymem_arenas, now;
	api.get_arena(&now);
	// An interpreter that is begun again has forgotten our function (3.12 and later). In front of somebody else's, who may
	// call ours, it is not put again.
	if (now.alloc == hook.alloc || (behind->alloc && (now.alloc != behind->alloc || now.context != behind->context)))
		return;
	*behind = now;
	api.set_arena(&hook);
	unsigned id = modules_find((uintptr_t)api.set_arena);
	if (id)
		allocator_set_arenas(modules_get(id)->image.text_low, modules_get(id)->image.text_high, pyframes_arena_bytes());
}

enum wrap_pymem_found wrap_pymem(bool initialised)
{
	if (!api.get)
		find_functions();
	if (!api.get || !api.set || !api.get_arena || !api.set_arena)
		return WRAP_PYMEM_NONE;
	bool gone = false, first = !wrapped;
	for (unsigned domain = HOOK_PYMEM_MEM; domain < HOOK_PYMEM_DOMAINS; domain++)
		gone |= wrap_domain(domain, initialised);
	// Otherwise what comes by it is one of malloc's requests. Its blocks are malloc's, so no free goes past us without it.
	if (load_relaxed(&tracer_gate.native_off))
		wrap_domain(HOOK_PYMEM_RAW, initialised);
	store_relaxed(&wrapped, true);
	wrap_arenas();
	if (front_word)
		store_relaxed(&front_seen, load_relaxed(front_word));
	if (first)
		return initialised ? WRAP_PYMEM_CAME_LATE : WRAP_PYMEM_IN_PLACE;
	return gone ? WRAP_PYMEM_WAS_GONE : WRAP_PYMEM_IN_PLACE;
}
