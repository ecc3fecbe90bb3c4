// hook_pool.c -- what a program tells of its own allocators
//
// Context:   memleak_pool_alloc(), _free() and _resize() are hot: called as often as a hook; the others are cold.
// Invariant: a slow path is entered by a tail jump, so its return address is the program's. Nothing the program has is
//            changed, nothing is read at the addresses that it tells.
// Why:       sampled by the countdowns of malloc's hooks: the same law for all blocks of a thread, whoever gives them out.
//            A program that does not know whether we are there has weak references (memleak.h): preloaded, the loader binds
//            them; who comes by an import fills the slots that it left empty.
// Proof:     tests/integration/test_pools.py
#include "hook_pool.h"

#define MEMLEAK_LINKED
#include "../include/memleak.h"

#include "bitmap.h"
#include "focus.h"
#include "owners.h"
#include "pools.h"
#include "recording.h"
#include "slots.h"
#include "tracer_gate.h"
#include "tracer_take.h"

#define KNOWN(pool) ((pool) - 1 < MLF_POOL_OTHER)

static bool is_wanted(void) { return !load_relaxed(&tracer_gate.native_off) && !sampler_self.busy; }

// What to record a block with, of the weight that was drawn for it.
static struct owners_drawn drawn_for(unsigned pool, uint32_t weight, const struct registers *caller)
{
	uint32_t judged = weight && is_wanted() ? focus_ask(weight, (enum mlf_domain)(MLF_POOL_DOMAIN + pool), caller) : 0;
	return (struct owners_drawn){FOCUS_WEIGHT(judged), judged ? focus_note(recording.header, judged) : SAMPLES_OF_BUDGET};
}

static NOINLINE void alloc_sampling(unsigned pool, void *p, size_t bytes, bool passed)
{
	struct registers caller = REGISTERS_OF_CALLER();
	struct owners_drawn drawn = drawn_for(pool, passed ? 0 : tracer_take(bytes), &caller);
	uint32_t *inside = drawn.weight_x1024 || bitmap_test_hot(p) ? tracer_enter() : NULL;
	if (!inside)
		return;
	owners_pool_allocated(pool, p, bytes, &drawn, &caller);
	tracer_leave(inside);
}

static NOINLINE void alloc_slow(unsigned pool, void *p, size_t bytes)
{
	alloc_sampling(pool, p, bytes, likely(tracer_look_hot(bytes)));
}

EXPORT void memleak_pool_alloc(unsigned pool, const void *p, unsigned long bytes)
{
	if (unlikely(!p || !KNOWN(pool)))
		return;
	if (unlikely(!sampler_pass_hot(bytes)))
		alloc_slow(pool, (void *)(uintptr_t)p, bytes);
	else if (bitmap_test_hot(p))
		alloc_sampling(pool, (void *)(uintptr_t)p, bytes, true);
}

static NOINLINE void free_known(unsigned pool, void *p, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t *inside = KNOWN(pool) ? tracer_enter() : NULL;
	if (!inside)
		return;
	owners_pool_freeing(pool, p, bytes, &caller);
	tracer_leave(inside);
}

EXPORT void memleak_pool_free(unsigned pool, const void *p)
{
	if (bitmap_test_hot(p))
		free_known(pool, (void *)(uintptr_t)p, OWNERS_SIZE_UNKNOWN);
}

EXPORT void memleak_pool_free_sized(unsigned pool, const void *p, unsigned long bytes)
{
	if (bitmap_test_hot(p))
		free_known(pool, (void *)(uintptr_t)p, bytes);
}

static NOINLINE void resize_sampling(unsigned pool, void *old, void *p, size_t bytes, bool passed)
{
	struct registers caller = REGISTERS_OF_CALLER();
	struct owners_drawn drawn = drawn_for(pool, passed || tracer_look_hot(bytes) ? 0 : tracer_take(bytes), &caller);
	uint32_t *inside = drawn.weight_x1024 || bitmap_test_hot(old) || bitmap_test_hot(p) ? tracer_enter() : NULL;
	if (!inside)
		return;
	owners_pool_resized(pool, old, p, bytes, &drawn, &caller);
	tracer_leave(inside);
}

EXPORT void memleak_pool_resize(unsigned pool, const void *old, const void *p, unsigned long bytes)
{
	if (unlikely(!p || !KNOWN(pool)))
		return;
	bool passed = sampler_pass_hot(bytes);
	if (unlikely(!passed) || bitmap_test_hot(old) || bitmap_test_hot(p))
		resize_sampling(pool, (void *)(uintptr_t)old, (void *)(uintptr_t)p, bytes, passed);
}

// ---- cold ----------------------------------------------------------------------------------------

static void write_down(void)
{
	uint32_t *inside = tracer_enter();
	if (!inside)
		return;
	owners_write();
	tracer_leave(inside);
}

EXPORT unsigned memleak_pool(const char *name)
{
	uint32_t before = load_relaxed(&pools_given);
	unsigned number = pools_number(name);
	if (load_relaxed(&pools_given) != before || number == MLF_POOL_OTHER)
		write_down();
	return number;
}

EXPORT int memleak_pool_region(unsigned pool, const void *base, unsigned long bytes)
{
	uintptr_t low = (uintptr_t)base;
	if (!KNOWN(pool) || !base || !bytes || low + bytes < low)
		return -1;
	struct pools_region region = {low, low + bytes, pool, pools_region_add(pool, low, bytes)};
	uint32_t *inside = tracer_enter();
	if (inside) {
		if (region.number)
			owners_region_begun(&region);
		owners_write();
		tracer_leave(inside);
	}
	return 0;
}

EXPORT int memleak_pool_region_end(unsigned pool, const void *base)
{
	struct pools_region region;
	if (!KNOWN(pool) || !pools_region_end(pool, (uintptr_t)base, &region))
		return -1;
	uint32_t *inside = tracer_enter();
	if (inside) {
		owners_region_ended(&region, pool);
		owners_write();
		tracer_leave(inside);
	}
	return 0;
}

// ---- for slots -----------------------------------------------------------------------------------

void hook_pool_register(void)
{
#define OFFERED(f) {#f, (uintptr_t)&f, NULL, false}
	static const struct slots_name names[] = {
	    OFFERED(memleak_pool),         OFFERED(memleak_pool_alloc),  OFFERED(memleak_pool_free),
	    OFFERED(memleak_pool_free_sized), OFFERED(memleak_pool_resize), OFFERED(memleak_pool_region),
	    OFFERED(memleak_pool_region_end), OFFERED(memleak_label_number), OFFERED(memleak_label_set),
	    OFFERED(memleak_gauge),        OFFERED(memleak_gauge_set),   OFFERED(memleak_gauge_add),
	    OFFERED(memleak_gauge_value),
	};
	static struct slots_table table = {.names = names, .count = ARRAY_LEN(names), .meaning = SLOTS_OFFERED};
	slots_register(&table);
}
