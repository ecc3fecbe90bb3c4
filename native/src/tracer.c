// tracer.c -- policy: what a sampled allocation and free do
//
// Context:   sampled; tracer_start(), tracer_stop() and tracer_poll() are cold.
// Invariant: nothing of the recording is touched unless is_armed(). The word behind `armed` lies in a page that
//            the kernel zeroes in a forked child, so a child (by fork or a raw clone) is detached
//            before its first instruction and never writes into its parent's recording.
// Why:       the hooks decide nothing; everything they may do is here, once, for both doors.
// Proof:     tests/native/test_tracer.c; tests/integration/test_fork.py, test_oracle.py
#include "tracer.h"

#include "bitmap.h"
#include "catalog.h"
#include "clock.h"
#include "liveset.h"
#include "modules.h"
#include "recording.h"
#include "regions.h"
#include "rows.h"
#include "stats.h"
#include "sys.h"
#include "unwind.h"

#define CHILD_CALLS_BEFORE_OPENING 1000U
#define COLD_START_NS 800U // what caches and TLB add to a sample in a real program (measured: 0.5..0.8 us)

static const uint64_t off_interval = SAMPLER_OFF, off_bytes = 0;

static uint32_t not_started = 1; // nothing to detach from
struct tracer_gate tracer_gate = {&not_started, &off_interval};
#define armed tracer_gate.armed
static enum { IDLE, ACTIVE, STOPPED } phase; // written by cold code
static struct recording_options reopen_options;
static bool follow_fork;

// A forked child that has not opened its own recording (yet).
static uint32_t child_calls;

// Relaxed: both are set before a thread can meet them by its own doing, or wiped by the kernel.
static bool is_armed(void) { return load_relaxed(armed) != 0 && load_relaxed(&phase) == ACTIVE; }

bool tracer_is_recording(void) { return is_armed(); }

// ---- the decision --------------------------------------------------------------------------------

static COLD void open_in_child(void)
{
	struct sampler *self = &sampler_self;
	const char *why;
	self->busy = 1;
	bitmap_drop();
	regions_drop();
	reopen_options.parent_recording_id = recording.header->recording_id;
	reopen_options.interval = (uint32_t)load_relaxed(&recording.header->effective);
	reopen_options.sample_bytes = load_relaxed(&recording.header->effective_sample_bytes);
	if (!tracer_start(&reopen_options, follow_fork, &why))
		phase = STOPPED;
	self->busy = 0;
}

static COLD uint32_t take_unarmed(size_t size_bytes)
{
	// The countdowns run on under the off law, so the slow path is met once in 64 calls; before a thread
	// has adopted that, at any. The calls themselves are counted, not the looks.
	uint32_t calls = sampler_self.calls_left <= 0 ? sampler_self.calls_loaded : 0;
	uint32_t weight = sampler_take(size_bytes, &off_interval, &off_bytes);
	if (load_relaxed(&phase) != ACTIVE)
		return 0;
	// A forked child. Until it has its own recording its counters are private memory.
	if (add_relaxed(&child_calls, calls) == 0)
		stats_detach();
	if (weight)
		count(detached);
	uint32_t seen = load_relaxed(&child_calls);
	if (follow_fork && seen >= CHILD_CALLS_BEFORE_OPENING && seen < UINT32_MAX / 2 &&
	    cas_relaxed(&child_calls, &seen, UINT32_MAX / 2)) // one thread opens
		open_in_child();
	return 0;
}

static COLD void adopt_knobs(struct mlf_header *header, uint64_t requested, uint64_t bytes)
{
	// The words come from outside (`memleak set`): believe nothing.
	uint64_t effective = load_relaxed(&header->effective);
	if (!sampler_interval_valid(requested) || (bytes != 0 && bytes < 4096)) {
		count(knobs_rejected);
		store_relaxed(&header->requested, effective);
		store_relaxed(&header->requested_sample_bytes, load_relaxed(&header->effective_sample_bytes));
		return;
	}
	store_relaxed(&header->effective_sample_bytes, bytes);
	store_relaxed(&header->effective, requested);
}

uint32_t tracer_take(size_t size_bytes)
{
	if (unlikely(sampler_self.busy)) {
		sampler_skip(size_bytes);
		if (is_armed() && sampler_self.busy != SAMPLER_NOT_THE_PROGRAM)
			count(nested);
		return 0;
	}
	if (unlikely(!is_armed()))
		return take_unarmed(size_bytes);
	struct mlf_header *header = recording.header;
	uint64_t requested = load_relaxed(&header->requested), bytes = load_relaxed(&header->requested_sample_bytes);
	if (unlikely(requested != load_relaxed(&header->effective) || bytes != load_relaxed(&header->effective_sample_bytes)))
		adopt_knobs(header, requested, bytes);
	return sampler_take(size_bytes, &header->effective, &header->effective_sample_bytes);
}

// ---- samples ---------------------------------------------------------------------------------------

static struct mlf_row *row_at(uint32_t ref) { return recording_at(ref); }

static void close_sample(const struct live_sample *sample, bool lost)
{
	rows_remove(row_at(sample->row), sample->size_bytes, sample->weight_x1024, clock_now_cs());
	if (lost) {
		add_relaxed(&row_at(sample->row)->lost_samples, 1);
		count(lost);
	} else {
		count(forgotten);
	}
}

static void forget(const void *address, enum mlf_layer layer, bool lost)
{
	struct live_sample sample;
	if (liveset_remove(address, layer, &sample))
		close_sample(&sample, lost);
}

static void count_end(enum unwind_end end, bool foreign)
{
	if (end == UNWIND_COMPLETE)
		return;
	count(truncated);
	if (foreign)
		count(unwind_foreign_stack);
	else if (end == UNWIND_NO_CFI)
		count(unwind_no_cfi);
	else if (end == UNWIND_BAD_CFI)
		count(unwind_bad_cfi);
	else if (end == UNWIND_BOUNDS)
		count(unwind_bounds);
}

static struct mlf_row *row_of_caller(const struct registers *caller, enum mlf_domain domain, uint32_t now_cs)
{
	uint64_t frames[MAX_FRAMES], hash;
	enum unwind_end end;
	struct unwind_bounds bounds = unwind_thread_bounds(caller->sp);
	unsigned n = unwind(caller, bounds, frames, MAX_FRAMES, &hash, &end);
	count_end(end, bounds.low == 0);
	return rows_of(&(struct rows_stack){frames, n, hash, end != UNWIND_COMPLETE}, domain, now_cs);
}

static bool insert(const void *address, enum mlf_layer layer, const struct live_sample *sample, uint32_t now_cs)
{
	// The address is live already: its free went past us. Close that sample first.
	if (unlikely(bitmap_test_hot(address)))
		forget(address, layer, true);
	if (!liveset_insert(address, layer, sample))
		return false;
	rows_add(row_at(sample->row), sample->size_bytes, sample->weight_x1024, now_cs);
	return true;
}

static bool record(const void *address, const struct live_sample *about, enum mlf_layer layer, enum mlf_domain domain,
		   const struct registers *caller)
{
	struct sampler *self = &sampler_self;
	self->busy = 1;
	fence_signal(); // a handler from here on finds us busy
	struct mlf_header *header = recording.header;
	uint32_t now_cs = clock_now_cs();
	struct live_sample sample = *about;
	sample.row = recording_ref(row_of_caller(caller, domain, now_cs));
	sample.thread = catalog_thread(now_cs);
	if (!sample.born_cs)
		sample.born_cs = now_cs;
	bool inserted = insert(address, layer, &sample, now_cs);
	if (inserted) {
		count(samples);
		store_relaxed(&header->heartbeat_cs, now_cs);
	}
	fence_signal();
	self->busy = 0;
	return inserted;
}

void tracer_allocated(void *address, size_t size_bytes, uint32_t weight_x1024, enum mlf_layer layer,
		      enum mlf_domain domain, const struct registers *caller)
{
	if (likely(is_armed()))
		record(address, &(struct live_sample){.size_bytes = size_bytes, .weight_x1024 = weight_x1024}, layer,
		       domain, caller);
}

void tracer_freeing(void *address, enum mlf_layer layer)
{
	if (likely(is_armed()))
		forget(address, layer, false);
}

// ---- realloc ---------------------------------------------------------------------------------------

static struct live_sample sample_of(const struct tracer_moving *m)
{
	return (struct live_sample){m->size_bytes, m->row, m->weight_x1024, m->born_cs, m->thread};
}

void tracer_moving(void *address, struct tracer_moving *out)
{
	struct live_sample sample;
	out->was_sampled = is_armed() && liveset_remove(address, MLF_LAYER_MALLOC, &sample);
	if (!out->was_sampled)
		return;
	out->size_bytes = sample.size_bytes;
	out->row = sample.row;
	out->weight_x1024 = sample.weight_x1024;
	out->born_cs = sample.born_cs;
	out->thread = sample.thread;
}

void tracer_move_failed(void *address, const struct tracer_moving *moving)
{
	if (!moving->was_sampled)
		return;
	struct live_sample sample = sample_of(moving);
	if (!liveset_insert(address, MLF_LAYER_MALLOC, &sample)) // counted there
		rows_remove(row_at(sample.row), sample.size_bytes, sample.weight_x1024, clock_now_cs());
}

void tracer_moved(const struct tracer_moving *from, void *to, size_t size_bytes, uint32_t weight_x1024,
		  const struct registers *caller)
{
	if (!is_armed())
		return;
	if (from->was_sampled) {
		rows_remove(row_at(from->row), from->size_bytes, from->weight_x1024, clock_now_cs());
		count(forgotten);
	}
	if (weight_x1024)
		record(to,
		       &(struct live_sample){.size_bytes = size_bytes,
					     .weight_x1024 = weight_x1024,
					     .born_cs = from->was_sampled ? from->born_cs : 0},
		       MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, caller);
}

// ---- mappings --------------------------------------------------------------------------------------

static void keep_piece(uintptr_t start, uintptr_t end, struct live_sample sample)
{
	if (start >= end)
		return;
	sample.size_bytes = end - start;
	if (liveset_insert((void *)start, MLF_LAYER_MMAP, &sample)) {
		if (regions_add((struct region){start, end}))
			return;
		liveset_remove((void *)start, MLF_LAYER_MMAP, &sample); // nothing would ever find it again
	}
	count(region_full);
	rows_remove(row_at(sample.row), sample.size_bytes, sample.weight_x1024, clock_now_cs());
}

// Forgets what [start, start + bytes) covers of live mappings. `lost`: it went out of our sight.
static void cut_mappings(void *start, size_t bytes, bool lost, struct tracer_unmapped *out)
{
	out->count = 0;
	if (!is_armed() || !regions_any())
		return;
	struct region wanted = {(uintptr_t)start, (uintptr_t)start + round_up(bytes, PAGE_BYTES)}, region;
	uint32_t now_cs = clock_now_cs();
	// Bounded: each turn takes one region out, and what is put back no longer overlaps.
	while (regions_take_overlap(wanted, &region)) {
		struct live_sample sample;
		if (!liveset_remove((void *)region.start, MLF_LAYER_MMAP, &sample))
			continue;
		uintptr_t cut_start = region.start > wanted.start ? region.start : wanted.start;
		uintptr_t cut_end = region.end < wanted.end ? region.end : wanted.end;
		bool head = cut_start > region.start, tail = cut_end < region.end;
		struct mlf_row *row = row_at(sample.row);
		if (!head && !tail) {
			close_sample(&sample, lost);
		} else {
			if (lost)
				count(lost);
			rows_shrink(row, cut_end - cut_start, now_cs);
			if (head && tail) // one mapping becomes two
				rows_add(row, 0, SAMPLER_WEIGHT_ONE, now_cs);
		}
		keep_piece(region.start, cut_start, sample);
		keep_piece(cut_end, region.end, sample);
		if (out->count < TRACER_UNMAPPED_KEPT) {
			out->piece[out->count].start = cut_start;
			out->piece[out->count].bytes = cut_end - cut_start;
			out->piece[out->count].sample = (struct tracer_moving){
			    true, sample.size_bytes, sample.row, sample.weight_x1024, sample.born_cs, sample.thread};
		}
		out->count++;
	}
}

void tracer_mapped(void *start, size_t bytes, const struct registers *caller)
{
	if (!is_armed() || sampler_self.busy || (uint32_t)load_relaxed(&recording.header->effective) == SAMPLER_OFF)
		return;
	// What we still hold for live there was unmapped past us: two regions at one place would
	// later be cut as if both were there.
	struct tracer_unmapped unseen;
	cut_mappings(start, bytes, true, &unseen);
	if (!record(start, &(struct live_sample){.size_bytes = bytes, .weight_x1024 = SAMPLER_WEIGHT_ONE}, MLF_LAYER_MMAP,
		    MLF_DOMAIN_MMAP, caller))
		return;
	if (!regions_add((struct region){(uintptr_t)start, (uintptr_t)start + bytes})) {
		count(region_full);
		forget(start, MLF_LAYER_MMAP, false);
	}
}

void tracer_unmapping(void *start, size_t bytes, struct tracer_unmapped *out) { cut_mappings(start, bytes, false, out); }

void tracer_unmap_failed(const struct tracer_unmapped *unmapped)
{
	for (unsigned i = 0; i < unmapped->count; i++) {
		if (i >= TRACER_UNMAPPED_KEPT) {
			count(lost);
			continue;
		}
		struct live_sample sample = sample_of(&unmapped->piece[i].sample);
		uintptr_t start = unmapped->piece[i].start;
		rows_add(row_at(sample.row), unmapped->piece[i].bytes, sample.weight_x1024, clock_now_cs());
		keep_piece(start, start + unmapped->piece[i].bytes, sample);
	}
}

// ---- cold ------------------------------------------------------------------------------------------

static uint32_t *wiped_word(void)
{
	uint32_t *page = sys_private_pages(PAGE_BYTES);
	if (page && sys_madvise(page, PAGE_BYTES, MADV_WIPEONFORK) == 0)
		return page;
	return NULL;
}

// What one sample costs here: unwinding, row, live set, timed on this very stack.
static NOINLINE uint32_t calibrate(void)
{
	enum { ROUNDS = 32 };
	struct registers caller = REGISTERS_OF_CALLER();
	uint64_t frames[MAX_FRAMES], hash, began = 0;
	enum unwind_end end;
	for (int i = 0; i <= ROUNDS; i++) {
		if (i == 1) // the first fills the rule cache
			began = clock_monotonic_precise_ns();
		unwind(&caller, unwind_thread_bounds(caller.sp), frames, MAX_FRAMES, &hash, &end);
		clock_now_cs();
	}
	return (uint32_t)((clock_monotonic_precise_ns() - began) / ROUNDS) + COLD_START_NS;
}

bool tracer_start(const struct recording_options *options, bool follow, const char **why)
{
	if (armed == &not_started) {
		uint32_t *word = wiped_word();
		if (!word) {
			*why = "the kernel has no MADV_WIPEONFORK (before Linux 4.14)";
			return false;
		}
		store_release(&armed, word);
	}
	uint64_t seed = options->seed;
	if (!seed)
		sys_getrandom(&seed, sizeof(seed));
	sampler_seed(seed ^ (phase == ACTIVE ? (uint64_t)sys_getpid() * MLF_CHECK_3 : 0));
	bitmap_open();
	if (!recording_open(options, why)) {
		*why = "no address space for a recording";
		return false;
	}
	rows_open();
	reopen_options = *options;
	follow_fork = follow;
	child_calls = 0;
	recording.header->sample_cost_ns = calibrate();
	store_relaxed(&tracer_gate.interval, &recording.header->requested);
	store_relaxed(&phase, ACTIVE);
	store_release(armed, 1); // last: from here on hooks record
	sampler_restart();       // this thread follows the new knobs at once, others within 64 calls
	return true;
}

void tracer_stop(enum mlf_state state)
{
	if (!is_armed())
		return;
	if (state == MLF_STATE_STOPPED)
		store_relaxed(&phase, STOPPED);
	recording_close(state);
}

void tracer_poll(void)
{
	if (!is_armed())
		return;
	modules_refresh();
	catalog_name_threads();
	while (recording_grow())
		;
}

void tracer_unload_noticed(void)
{
	modules_note_unload();
	if (is_armed())
		count(unloads);
}
