// hook_new.c -- operator new and delete, hooked at the slots they are called through
//
// Context:   the hooks are hot, hook_new_register() is cold.
// Invariant: a hook calls the very function its slot held. An allocation is counted once: by malloc's
//            hook if operator new ends there, else here. What is taken from a provider is seen freed: either all of its
//            functions are hooked or none.
// Why:       exporting operator new would put libstdc++'s behind ours for every object and break
//            programs that replace it. Most operator news end in malloc, where the sample is drawn and
//            the row named operator_new; these hooks exist for those that do not (jemalloc's and
//            tcmalloc's own, pools).
//            No state is kept across the call: operator new may throw through us.
// Proof:     tests/integration/test_operator_new.py
#include "hook_new.h"

#include "bitmap.h"
#include "modules.h"
#include "owners.h"
#include "slots.h"
#include "tracer.h"
#include "tracer_gate.h"
#include "tracer_take.h"

// Up to this many objects may provide them; those of a further one are left alone, and coverage tells.
#define INSTANCES 8U // 3 KiB of code each

typedef void *(*new_function)(size_t, size_t, size_t);
typedef void (*delete_function)(void *, size_t, size_t);

static bool is_library[INSTANCES]; // the C++ library's: they end in malloc and free, and nowhere else

#define CHOSEN(name) {name, 0, NULL, false}
static const struct slots_name new_names[] = {
    CHOSEN("_Znwm"), CHOSEN("_Znam"), CHOSEN("_ZnwmRKSt9nothrow_t"), CHOSEN("_ZnamRKSt9nothrow_t"),
    CHOSEN("_ZnwmSt11align_val_t"), CHOSEN("_ZnamSt11align_val_t"),
    CHOSEN("_ZnwmSt11align_val_tRKSt9nothrow_t"), CHOSEN("_ZnamSt11align_val_tRKSt9nothrow_t"),
};
static const struct slots_name delete_names[] = {
    CHOSEN("_ZdlPv"), CHOSEN("_ZdaPv"), CHOSEN("_ZdlPvm"), CHOSEN("_ZdaPvm"),
    CHOSEN("_ZdlPvRKSt9nothrow_t"), CHOSEN("_ZdaPvRKSt9nothrow_t"),
    CHOSEN("_ZdlPvSt11align_val_t"), CHOSEN("_ZdaPvSt11align_val_t"),
    CHOSEN("_ZdlPvmSt11align_val_t"), CHOSEN("_ZdaPvmSt11align_val_t"),
    CHOSEN("_ZdlPvSt11align_val_tRKSt9nothrow_t"), CHOSEN("_ZdaPvSt11align_val_tRKSt9nothrow_t"),
};
static bool is_sized(unsigned name) { return name == 2 || name == 3; } // with an alignment the size is rounded up
#define NEW_NAMES ARRAY_LEN(new_names)
#define DELETE_NAMES ARRAY_LEN(delete_names)

static new_function real_new[INSTANCES][NEW_NAMES];
static delete_function real_delete[INSTANCES][DELETE_NAMES];

// Entered by a tail jump from a hook, so the caller is the program.
static NOINLINE void *new_counted_here(void *p, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = tracer_take(bytes);
	if (weight && p)
		tracer_allocated(p, bytes, weight, MLF_LAYER_OPERATOR_NEW, MLF_DOMAIN_OPERATOR_NEW, &caller);
	return p;
}

// malloc's hook has not looked at this call: a sample that is there is from before, and its free went past us.
static NOINLINE void *new_of_known_place(void *p, unsigned instance)
{
	uint32_t *inside = load_relaxed(&is_library[instance]) ? tracer_enter() : NULL;
	if (inside) {
		owners_new(p);
		tracer_leave(inside);
	}
	return p;
}

// Entered by a tail jump, so the caller is the program.
static NOINLINE void delete_sampled(void *p, size_t second, size_t third, unsigned instance, unsigned name)
{
	struct registers caller = REGISTERS_OF_CALLER();
	if (load_relaxed(&owners_compares_cxx) && load_relaxed(&is_library[instance])) {
		uint32_t *inside = tracer_enter();
		if (inside) {
			owners_deleting(p, is_sized(name) ? second : OWNERS_SIZE_UNKNOWN, &caller);
			tracer_leave(inside);
		}
	} else {
		tracer_freeing(p, MLF_LAYER_OPERATOR_NEW);
	}
	real_delete[instance][name](p, second, third);
}

#define NEW_HOOK(instance, name)                                                                   \
	static void *new_##instance##_##name(size_t bytes, size_t second, size_t third)            \
	{                                                                                          \
		uint64_t before = sampler_tick();                                                  \
		void *p = real_new[instance][name](bytes, second, third);                          \
		if (likely(sampler_tick() != before)) /* perhaps it has just been sampled */       \
			return p;                                                                  \
		if (likely(sampler_pass_hot(bytes)))                                               \
			return likely(!bitmap_test_hot(p)) ? p : new_of_known_place(p, instance);  \
		return new_counted_here(p, bytes);                                                 \
	}
#define DELETE_HOOK(instance, name)                                                                \
	static void delete_##instance##_##name(void *p, size_t second, size_t third)               \
	{                                                                                          \
		if (likely(!bitmap_test_hot(p)))                                                   \
			real_delete[instance][name](p, second, third);                             \
		else                                                                               \
			delete_sampled(p, second, third, instance, name);                          \
	}
#define EACH_NEW(X, i) X(i, 0) X(i, 1) X(i, 2) X(i, 3) X(i, 4) X(i, 5) X(i, 6) X(i, 7)
#define EACH_DELETE(X, i) EACH_NEW(X, i) X(i, 8) X(i, 9) X(i, 10) X(i, 11)
#define EACH_INSTANCE(EACH, X) EACH(X, 0) EACH(X, 1) EACH(X, 2) EACH(X, 3) EACH(X, 4) EACH(X, 5) EACH(X, 6) EACH(X, 7)

EACH_INSTANCE(EACH_NEW, NEW_HOOK)
EACH_INSTANCE(EACH_DELETE, DELETE_HOOK)

#define NEW_ENTRY(i, n) [i][n] = new_##i##_##n,
#define DELETE_ENTRY(i, n) [i][n] = delete_##i##_##n,
static const new_function hook_of_new[INSTANCES][NEW_NAMES] = {EACH_INSTANCE(EACH_NEW, NEW_ENTRY)};
static const delete_function hook_of_delete[INSTANCES][DELETE_NAMES] = {EACH_INSTANCE(EACH_DELETE, DELETE_ENTRY)};

// ---- choosing a hook for a slot ------------------------------------------------------------------

// Only the thread that scans comes here. An instance is never given to another object: a call may be under way in it.
static unsigned provider_of_instance[INSTANCES]; // module id; 0: free

static unsigned providers;
static bool several; // more than there are instances for

// GNU's, by its name: of others it is not known that the frame that calls malloc is operator new's own.
static bool is_cxx_library(const struct module *module)
{
	static const char name[] = "libstdc++.so";
	const char *base = module->path;
	for (const char *at = module->path; *at; at++)
		base = *at == '/' ? at + 1 : base;
	for (unsigned i = 0; i < sizeof(name) - 1; i++)
		if (base[i] != name[i])
			return false;
	return true;
}

// The instance for the object that `original` is part of, claimed if need be; INSTANCES: none.
static unsigned instance_for(uintptr_t original)
{
	unsigned provider = modules_find(original), i = 0;
	if (!provider)
		return INSTANCES;
	while (i < INSTANCES && provider_of_instance[i] && provider_of_instance[i] != provider)
		i++;
	if (i < INSTANCES && !provider_of_instance[i]) {
		provider_of_instance[i] = provider;
		store_relaxed(&is_library[i], is_cxx_library(modules_get(provider)));
		providers++;
	}
	several |= i == INSTANCES;
	store_relaxed(&owners_compares_cxx, providers == 1 && is_library[0] && !several);
	return i;
}

// Is `original` the function that the hook calls, from now on? An object may have two functions of one name, by version.
static bool takes(uintptr_t *real_function, uintptr_t original)
{
	uintptr_t seen = 0;
	return cas_acq_rel(real_function, &seen, original) || seen == original; // published with the slot
}

static uintptr_t hook_for_new(unsigned n, uintptr_t original)
{
	unsigned i = instance_for(original);
	return i < INSTANCES && takes((uintptr_t *)&real_new[i][n], original) ? (uintptr_t)hook_of_new[i][n] : 0;
}

static uintptr_t hook_for_delete(unsigned n, uintptr_t original)
{
	unsigned i = instance_for(original);
	return i < INSTANCES && takes((uintptr_t *)&real_delete[i][n], original) ? (uintptr_t)hook_of_delete[i][n] : 0;
}

void hook_new_register(void)
{
	static struct slots_table tables[] = {
	    {.names = new_names, .count = NEW_NAMES, .meaning = SLOTS_NEW, .choose = hook_for_new},
	    {.names = delete_names, .count = DELETE_NAMES, .meaning = SLOTS_NEW, .choose = hook_for_delete},
	};
	slots_register(&tables[0]);
	slots_register(&tables[1]);
}
