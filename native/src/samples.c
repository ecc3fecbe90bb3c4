// samples.c -- one sample in the tables: its backtrace, its row, its place among the live
//
// Context:   sampled; between tracer_enter() and tracer_leave().
// Invariant: a row's sums and the live set agree but for what threads are just doing: each function here changes both.
// Why:       what is done with one sample knows nothing of whether, when and for whom.
// Proof:     tests/native/test_tracer.c; tests/integration/test_oracle.py; tests/models/order.pml
#include "samples.h"

#include "bitmap.h"
#include "catalog.h"
#include "clock.h"
#include "governor.h"
#include "greenlets.h"
#include "labels.h"
#include "modules.h"
#include "outcome.h"
#include "pyframes.h"
#include "recording.h"
#include "rows.h"
#include "sampler.h"
#include "stats.h"
#include "thinning.h"
#include "unwind.h"

// What a sample costs beside its frames in a real program, its later forgetting included (measured: 1.0..1.4 us). Caches
// and TLB are 0.5..0.8 us of it; the code alone, hot, is 0.15 us.
#define SAMPLE_NS 1100U
#define PYTHON_FRAME_NS 25U // (measured: 0.29 us for 12 frames)

static uint32_t frame_cost_ns; // of a native frame; written by cold code

void samples_close(const struct live_sample *sample, bool lost)
{
	rows_remove(samples_row(sample->row), sample->size_bytes, sample->weight_x1024, clock_now_cs());
	if (lost) {
		add_relaxed(&samples_row(sample->row)->lost_samples, 1);
		count(lost);
	} else {
		count(forgotten);
	}
}

void samples_forget(const void *address, enum mlf_layer layer, bool lost)
{
	struct live_sample sample;
	if (liveset_remove(address, layer, &sample))
		samples_close(&sample, lost);
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

struct python_half {
	uint64_t frames[MAX_FRAMES], hash;
	unsigned n;
	bool truncated;
	struct pylabel label;
};

// How many runs of the interpreter the Python frames tell of, at least; 0: not known.
static NOINLINE unsigned walk_python(struct python_half *python)
{
	unsigned n = pyframes_walk(python->frames, recording.header->max_frames, &python->hash, &python->truncated, &python->label), runs = 0;
	python->n = n;
	for (unsigned i = 0; i < n; i++)
		runs += (python->frames[i] & MLF_PYTHON_FRAME_ENTRY) != 0;
	return n && !python->truncated ? runs + !(python->frames[n - 1] & MLF_PYTHON_FRAME_ENTRY) : 0;
}

// Both halves; returns what it cost. `frames` is what the stack's frames stand in.
static inline uint32_t walk(const struct registers *caller, uint64_t *frames, struct python_half *python, struct rows_stack *out)
{
	uint64_t hash;
	enum unwind_end end;
	struct unwind_bounds bounds = unwind_thread_bounds(caller->sp);
	unsigned n = unwind(caller, bounds, frames, recording.header->max_frames, &hash, &end);
	unsigned own = greenlets_own_frames(frames, n, walk_python(python));
	if (unlikely(own < n)) {
		hash = unwind_hash(frames, own);
		end = UNWIND_COMPLETE; // whatever is behind it
	}
	count_end(end, bounds.low == 0);
	*out = (struct rows_stack){.frame = frames, .frames = own, .hash = hash, .truncated = end != UNWIND_COMPLETE,
				   .python_hash = python->hash, .label = python->label.number ? python->label.number : labels_of_thread()};
	return SAMPLE_NS + n * frame_cost_ns + python->n * PYTHON_FRAME_NS;
}

NOINLINE struct samples_stack samples_store_stack(const struct registers *caller)
{
	uint64_t frames[MAX_FRAMES];
	struct python_half python;
	struct rows_stack stack;
	walk(caller, frames, &python, &stack);
	return (struct samples_stack){rows_store_stack(&stack),
				      python.n ? pyframes_store(python.frames, python.n, python.hash, python.truncated) : 0};
}

// *entry: that the code is in, see outcome.h.
static struct mlf_row *row_of_caller(const struct registers *caller, enum mlf_domain domain, uint32_t now_cs, uint32_t *cost_ns,
				     uint32_t *entry)
{
	uint64_t frames[MAX_FRAMES];
	struct python_half python;
	struct rows_stack stack;
	*cost_ns = walk(caller, frames, &python, &stack);
	*entry = python.label.entry;
	if (unlikely(stack.label == MLF_LABEL_OTHER))
		count(label_other);
	struct mlf_row *row = rows_find(&stack, domain);
	if (likely(row && (row->python_stack || !python.n)))
		return row;
	if (python.n) {
		stack.python = pyframes_store(python.frames, python.n, python.hash, python.truncated);
		stack.python_lost = !stack.python;
	}
	return rows_of(&stack, domain, now_cs);
}

// As thinning_insert().
static unsigned insert(const void *address, enum mlf_layer layer, const struct live_sample *sample, uint32_t entry, uint32_t now_cs)
{
	struct liveset_place place;
	// The address is live already: its free went past us. Close that sample first.
	struct live_sample before;
	if (unlikely(bitmap_test_hot(address)) && liveset_remove_of_pool(address, layer, live_sample_pool(sample), &before))
		samples_close(&before, true);
	unsigned inserted = thinning_insert(address, layer, sample, &place, now_cs);
	if (unlikely(!inserted))
		return 0;
	if (unlikely(entry))
		outcome_note(&place, entry);
	rows_add(samples_row(sample->row), sample->size_bytes, sample->weight_x1024, now_cs);
	return inserted;
}

bool samples_record(const void *address, const struct live_sample *about, enum mlf_layer layer, enum mlf_domain domain,
		    const struct registers *caller, enum samples_payer payer)
{
	struct sampler *self = &sampler_self;
	self->busy = 1;
	fence_signal(); // a handler from here on finds us busy
	liveset_prefetch(address);
	struct mlf_header *header = recording.header;
	uint32_t now_cs = clock_now_cs(), cost_ns, entry;
	struct live_sample sample = *about;
	sample.row = recording_ref(row_of_caller(caller, domain, now_cs, &cost_ns, &entry));
	uint32_t thread = catalog_thread(now_cs);
	sample.thread |= thread;
	if (!sample.born_cs)
		sample.born_cs = now_cs;
	unsigned inserted = insert(address, layer, &sample, entry, now_cs);
	if (unlikely(inserted > 1))
		cost_ns += (inserted - 1) * THINNING_NS * recording_segments(MLF_KIND_LIVE);
	if (inserted) {
		count(samples);
		catalog_note_sample(thread, sample.row, now_cs);
		store_relaxed(&header->heartbeat_cs, now_cs);
	}
	bool of_python = layer == MLF_LAYER_PYMEM;
	if (unlikely(payer == SAMPLES_OF_FOCUS))
		add_relaxed(&header->focus_cost_ns, cost_ns); // relaxed: a sum
	else
		governor_spend(header, cost_ns, now_cs, of_python ? GOVERNOR_PYTHON : GOVERNOR_NATIVE, of_python ? NULL : self);
	fence_signal();
	self->busy = 0;
	return inserted != 0;
}

unsigned samples_close_displaced(const enum mlf_layer *layers, unsigned count_layers)
{
	unsigned closed = 0;
	for (unsigned i = 0; i < count_layers; i++) {
		uint64_t cursor = 0;
		for (const void *address; (address = liveset_next(layers[i], &cursor));) {
			struct live_sample sample;
			if (!liveset_remove(address, layers[i], &sample))
				continue;
			rows_remove(samples_row(sample.row), sample.size_bytes, sample.weight_x1024, clock_now_cs());
			add_relaxed(&samples_row(sample.row)->lost_samples, 1);
			count(displaced);
			closed++;
		}
	}
	return closed;
}

// What a native frame costs here, timed on this very stack.
NOINLINE uint32_t samples_calibrate(void)
{
	enum { BATCHES = 4, ROUNDS = 8 };
	struct registers caller = REGISTERS_OF_CALLER();
	uint64_t frames[MAX_FRAMES], hash, best_ns = UINT64_MAX;
	enum unwind_end end;
	unsigned n = 0;
	for (int batch = 0; batch < BATCHES; batch++) { // the first fills the rule cache; in one somebody else may get the processor
		uint64_t began = clock_monotonic_precise_ns();
		for (int i = 0; i < ROUNDS; i++)
			n = unwind(&caller, unwind_thread_bounds(caller.sp), frames, MAX_FRAMES, &hash, &end);
		uint64_t ns = (clock_monotonic_precise_ns() - began) / ROUNDS;
		best_ns = ns < best_ns ? ns : best_ns;
	}
	store_relaxed(&frame_cost_ns, n ? (uint32_t)(best_ns / n) : 0);
	return SAMPLE_NS + (uint32_t)best_ns;
}
