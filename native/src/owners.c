// owners.c -- who has given out a block, and does who frees it fit?
//
// Context:   sampled; between tracer_enter() and tracer_leave().
// Invariant: what is suspected is only ever written down: no call of the program's changes by it. Nothing is suspected but of a
//            block whose allocation was sampled; and nothing where an innocent explanation is left: see below.
// Why:       sampled blocks are known by address, with who allocated them, so that a wrong free shows at no cost for the others.
// Pools:     two owners may have a block at one address: the first one of a slab, and the slab. So live entries know their pool.
//            At an address where somebody else's sample begins, an unsampled block of a pool leaves a mark (GIVEN): who
//            frees a block to a pool without either has not got it there; if the pool knows its regions, that is.
//            A sampled block that is freed leaves a mark, too (FREED), until its address is given out again, which
//            meets the mark because its bit is set. A region's beginning has one, so that memory that is
//            given back with blocks in it is not taken for them.
// C++:       of the C++ library's operators it is known that they end in malloc and free. Rows tell what came from
//            new. A delete takes the sample out itself: what free() still finds did not come by delete.
// Proof:     tests/native/test_owners.c; tests/integration/test_pools.py, test_mismatches.py
#include "owners.h"

#include "atomics.h"
#include "bitmap.h"
#include "callsite.h"
#include "clock.h"
#include "liveset.h"
#include "mismatches.h"
#include "modules.h"
#include "pools.h"
#include "recording.h"
#include "rows.h"
#include "sampler.h"
#include "samples.h"
#include "stats.h"

#define FREED_KEPT 1024U // marks of freed blocks; the oldest goes first

bool owners_compares_cxx;

static uintptr_t freed[FREED_KEPT];
static uint32_t freed_next;
static bool unnoted; // a mark found no room: what pools free is not compared with others' samples any more

// ---- what does not fit -----------------------------------------------------------------------------

static void suspect(enum mlf_mismatch_kind kind, const struct live_sample *sample, unsigned freed_pool, uint64_t freed_bytes, uint64_t target,
		    const struct registers *caller)
{
	struct sampler *self = &sampler_self;
	if (self->busy)
		return;
	self->busy = 1;
	fence_signal(); // a handler from here on finds us busy
	struct samples_stack stack = samples_store_stack(caller);
	mismatches_add(&(struct mismatches_seen){.kind = kind, .row = sample->row, .native_stack = stack.native, .python_stack = stack.python,
						 .freed_pool = freed_pool, .thread = self->recording == recording.number ? self->thread : 0,
						 .weight_x1024 = sample->weight_x1024, .size_bytes = sample->size_bytes,
						 .freed_bytes = freed_bytes, .target = target});
	fence_signal();
	self->busy = 0;
}

// ---- marks ---------------------------------------------------------------------------------------

static bool mark(const void *p, enum mlf_layer layer, const struct live_sample *what)
{
	return liveset_insert(p, layer, what);
}

static bool unmark(const void *p, enum mlf_layer layer, unsigned pool)
{
	struct live_sample unused;
	return liveset_remove_of_pool(p, layer, pool, &unused);
}

static void mark_freed(const void *p, const struct live_sample *sample)
{
	uint32_t i = add_relaxed(&freed_next, 1) % FREED_KEPT;
	uintptr_t oldest = exchange_acq_rel(&freed[i], (uintptr_t)p);
	if (oldest)
		unmark((const void *)oldest, MLF_LAYER_POOL_FREED, 0);
	mark(p, MLF_LAYER_POOL_FREED, sample);
}

static bool is_sampled_elsewhere(const void *p)
{
	struct live_sample unused;
	return liveset_find(p, MLF_LAYER_MALLOC, &unused) || liveset_find(p, MLF_LAYER_OPERATOR_NEW, &unused) ||
	       liveset_find(p, MLF_LAYER_POOL, &unused);
}

static void mark_region(const struct pools_region *region)
{
	const void *base = (const void *)region->low;
	struct live_sample what = {.size_bytes = region->high - region->low,
				   .thread = region->pool << MLF_LIVE_POOL_SHIFT | region->number << MLF_LIVE_REGION_SHIFT};
	unmark(base, MLF_LAYER_POOL_REGION, region->pool);
	mark(base, MLF_LAYER_POOL_REGION, &what);
}

// ---- pools ---------------------------------------------------------------------------------------

// The pool has given out p: it is free no longer, and what it had there has been freed past us.
static void given_out(unsigned pool, const void *p, bool sampled)
{
	struct live_sample before, given = {.thread = pool << MLF_LIVE_POOL_SHIFT};
	while (unmark(p, MLF_LAYER_POOL_FREED, 0))
		;
	unmark(p, MLF_LAYER_POOL_GIVEN, pool);
	if (liveset_remove_of_pool(p, MLF_LAYER_POOL, pool, &before))
		samples_close(&before, true);
	if (sampled || !is_sampled_elsewhere(p) || mark(p, MLF_LAYER_POOL_GIVEN, &given))
		return;
	count(pool_unnoted);
	store_relaxed(&unnoted, true);
}

static void record(unsigned pool, void *p, size_t bytes, const struct owners_drawn *drawn, uint32_t born_cs, const struct registers *caller)
{
	samples_record(p,
		       &(struct live_sample){.size_bytes = bytes, .weight_x1024 = drawn->weight_x1024, .born_cs = born_cs,
					     .thread = pools_tag(pool, (uintptr_t)p)},
		       MLF_LAYER_POOL, (enum mlf_domain)(MLF_POOL_DOMAIN + pool), caller, drawn->payer);
}

void owners_pool_allocated(unsigned pool, void *p, size_t bytes, const struct owners_drawn *drawn, const struct registers *caller)
{
	if (bitmap_test_hot(p))
		given_out(pool, p, drawn->weight_x1024 != 0);
	if (drawn->weight_x1024)
		record(pool, p, bytes, drawn, 0, caller);
}

// Has a pool begun to hand out the block of malloc's at p? Then it is not that block that is freed.
static bool is_cut_up(const void *p)
{
	struct live_sample unused;
	return liveset_find(p, MLF_LAYER_POOL_REGION, &unused) || liveset_find(p, MLF_LAYER_POOL_GIVEN, &unused);
}

// Nothing of the pool is known at p: whose is it?
static void compare_with_others(unsigned pool, const void *p, const struct registers *caller)
{
	struct live_sample sample;
	struct pools_region region;
	if (liveset_find_of_pool(p, MLF_LAYER_POOL_FREED, pool, &sample)) {
		suspect(MLF_MISMATCH_POOL_TWICE, &sample, pool, 0, 0, caller);
		return;
	}
	if (load_relaxed(&unnoted) || pool == MLF_POOL_OTHER || !pools_disowns(pool, (uintptr_t)p))
		return;
	if (liveset_find(p, MLF_LAYER_POOL, &sample)) {
		if (pools_region_of(live_sample_pool(&sample), (uintptr_t)p, &region))
			suspect(MLF_MISMATCH_POOL_POOL, &sample, pool, 0, 0, caller);
	} else if (liveset_find(p, MLF_LAYER_MALLOC, &sample) && !is_cut_up(p)) {
		suspect(MLF_MISMATCH_MALLOC_POOL, &sample, pool, 0, 0, caller);
	}
}


void owners_pool_freeing(unsigned pool, void *p, size_t bytes, const struct registers *caller)
{
	struct live_sample sample;
	if (!liveset_remove_of_pool(p, MLF_LAYER_POOL, pool, &sample)) {
		if (!unmark(p, MLF_LAYER_POOL_GIVEN, pool))
			compare_with_others(pool, p, caller);
		return;
	}
	if (bytes != OWNERS_SIZE_UNKNOWN && bytes != sample.size_bytes && pool != MLF_POOL_OTHER)
		suspect(MLF_MISMATCH_POOL_SIZE, &sample, pool, bytes, 0, caller);
	samples_close(&sample, false);
	mark_freed(p, &sample);
}

void owners_pool_resized(unsigned pool, void *old, void *p, size_t bytes, const struct owners_drawn *drawn, const struct registers *caller)
{
	struct live_sample sample = {.born_cs = 0};
	// Not compared: of a pool that passes on to realloc(), malloc's sample at `old` may be of the new block.
	if (old && bitmap_test_hot(old)) {
		unmark(old, MLF_LAYER_POOL_GIVEN, pool);
		if (liveset_remove_of_pool(old, MLF_LAYER_POOL, pool, &sample)) {
			samples_close(&sample, false);
			if (old != p)
				mark_freed(old, &sample);
		}
	}
	if (bitmap_test_hot(p))
		given_out(pool, p, drawn->weight_x1024 != 0);
	if (drawn->weight_x1024)
		record(pool, p, bytes, drawn, sample.born_cs, caller);
}

// ---- regions -------------------------------------------------------------------------------------

void owners_region_begun(const struct pools_region *region) { mark_region(region); }

// What a pool has given out in a range, of any if 0: its memory is gone. Of most ranges the bitmap tells that there is nothing, for
// whoever passes over all live samples.
static void forget_in(uintptr_t low, uintptr_t high, unsigned pool)
{
	static const enum mlf_layer layers[] = {MLF_LAYER_POOL, MLF_LAYER_POOL_FREED, MLF_LAYER_POOL_GIVEN, MLF_LAYER_POOL_REGION};
	for (unsigned i = 0; i < ARRAY_LEN(layers) && bitmap_any(low, high); i++) {
		uint64_t cursor = 0;
		struct live_sample sample;
		for (const void *p; (p = liveset_next(layers[i], &cursor));) {
			if ((uintptr_t)p < low || (uintptr_t)p >= high || !liveset_remove_of_pool(p, layers[i], pool, &sample))
				continue;
			if (layers[i] == MLF_LAYER_POOL)
				samples_close(&sample, false);
		}
	}
}

void owners_region_ended(const struct pools_region *region, unsigned pool)
{
	unmark((const void *)region->low, MLF_LAYER_POOL_REGION, pool);
	forget_in(region->low, region->high, pool);
}

// Memory is given back, or mapped anew, that regions lie in. A region of which it is a part stays: its pool may take that back.
static void range_is_gone(uintptr_t low, uintptr_t high)
{
	struct pools_region region;
	bool any = false;
	while (pools_region_take_within(low, high, &region)) {
		owners_region_ended(&region, 0);
		any = true;
	}
	if (any)
		pools_write();
	if (pools_region_overlaps(low, high))
		forget_in(low, high, 0);
}

void owners_unmapping(uintptr_t low, uintptr_t high) { range_is_gone(low, high); }

// A block of malloc's goes that begins at p. False: no region does there.
static bool block_is_gone(const void *p)
{
	struct live_sample region;
	while (unmark(p, MLF_LAYER_POOL_GIVEN, 0))
		;
	if (!liveset_find(p, MLF_LAYER_POOL_REGION, &region))
		return false;
	range_is_gone((uintptr_t)p, (uintptr_t)p + region.size_bytes);
	return true;
}

// It was malloc's: what a pool has had there is gone with it, and nobody's fault.
void owners_moved(const void *p)
{
	struct live_sample sample;
	if (!pools_any())
		return;
	block_is_gone(p);
	while (liveset_remove_of_pool(p, MLF_LAYER_POOL, 0, &sample))
		samples_close(&sample, false);
}

static void open_region(const struct pools_region *region) { mark_region(region); }

void owners_open(void)
{
	store_relaxed(&unnoted, false);
	for (unsigned i = 0; i < FREED_KEPT; i++)
		store_relaxed(&freed[i], 0);
	if (!pools_any())
		return;
	pools_write();
	pools_each_region(open_region);
}

void owners_write(void)
{
	if (pools_any())
		pools_write();
}

// ---- malloc's blocks -------------------------------------------------------------------------------

// Did the object that asked for the block bring an operator new of its own? Then it may have been that.
static bool may_be_new(const struct mlf_row *row)
{
	const struct mlf_stack *stack = row->native_stack ? recording_at(row->native_stack) : NULL;
	unsigned id = stack && stack->frames ? (unsigned)(stack->frame[0] >> MLF_FRAME_MODULE_SHIFT) : 0;
	return !id || elf_image_symbol(&modules_get(id)->image, "_Znwm", NULL);
}

static enum mlf_domain domain_of(const struct live_sample *sample) { return (enum mlf_domain)samples_row(sample->row)->domain; }

// Has a pool p, and not as the first of memory that is given back with it?
static void compare_with_pools(void *p, const struct registers *caller)
{
	struct live_sample sample;
	struct pools_region region;
	if (block_is_gone(p) || !liveset_find(p, MLF_LAYER_POOL, &sample) || live_sample_pool(&sample) == MLF_POOL_OTHER)
		return;
	if (!pools_region_of(live_sample_pool(&sample), (uintptr_t)p, &region) || (uintptr_t)p == region.low ||
	    !liveset_remove_of_pool(p, MLF_LAYER_POOL, live_sample_pool(&sample), &sample))
		return;
	suspect(MLF_MISMATCH_POOL_FREE, &sample, 0, 0, 0, caller);
	samples_close(&sample, false); // whatever free() makes of it
}

void owners_freeing(void *p, uintptr_t function, const struct registers *caller)
{
	struct live_sample sample;
	uint64_t stub;
	if (!liveset_remove(p, MLF_LAYER_MALLOC, &sample)) {
		if (pools_any())
			compare_with_pools(p, caller);
		return;
	}
	if (load_relaxed(&owners_compares_cxx) && domain_of(&sample) == MLF_DOMAIN_OPERATOR_NEW &&
	    callsite_calls(caller->pc, function, &stub))
		suspect(MLF_MISMATCH_NEW_FREE, &sample, 0, 0, stub, caller);
	samples_close(&sample, false);
	owners_moved(p);
}

void owners_deleting(void *p, size_t bytes, const struct registers *caller)
{
	struct live_sample sample;
	samples_forget(p, MLF_LAYER_OPERATOR_NEW, false);
	if (!liveset_remove(p, MLF_LAYER_MALLOC, &sample))
		return; // free() will look for what else there is
	enum mlf_domain domain = domain_of(&sample);
	if (domain == MLF_DOMAIN_MALLOC && !may_be_new(samples_row(sample.row)))
		suspect(MLF_MISMATCH_MALLOC_DELETE, &sample, 0, 0, 0, caller);
	else if (domain == MLF_DOMAIN_OPERATOR_NEW && bytes != OWNERS_SIZE_UNKNOWN && (bytes ? bytes : 1) != sample.size_bytes)
		suspect(MLF_MISMATCH_NEW_SIZE, &sample, 0, bytes, 0, caller);
	samples_close(&sample, false);
	owners_moved(p);
}

void owners_new(void *p)
{
	struct live_sample before;
	// A sample that was taken now came through operator new. What did not was freed past us, and its address is given out again.
	if (liveset_find(p, MLF_LAYER_MALLOC, &before) && domain_of(&before) == MLF_DOMAIN_MALLOC)
		samples_forget(p, MLF_LAYER_MALLOC, true);
}
