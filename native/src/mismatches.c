// mismatches.c -- blocks that were freed another way than they were allocated: what the recording says of them
//
// Context:   sampled; between tracer_enter() and tracer_leave().
// Invariant: a record's key, row and stacks are whole before it is VALID, and do not change; its counters only grow.
// Why:       one mistake in a program is met a million times: what is told apart is who allocated, who freed, and how. 64 places
//            are passed through, each a line; there is nothing to be fast for.
// Proof:     tests/native/test_owners.c; tests/integration/test_mismatches.py
#include "mismatches.h"

#include "clock.h"
#include "recording.h"
#include "stats.h"

#include <stdbool.h>

enum { EMPTY, FILLING, VALID };

static uint64_t key_of(const struct mismatches_seen *seen)
{
	uint64_t key = ((uint64_t)seen->row << 32 | seen->native_stack) * MLF_CHECK_1;
	key ^= ((uint64_t)seen->python_stack << 32 | (uint64_t)seen->freed_pool << 8 | seen->kind) * MLF_CHECK_2;
	key ^= seen->target * MLF_CHECK_3;
	key ^= key >> 32;
	return key ? key : 1;
}

static void fill(struct mlf_mismatch *record, const struct mismatches_seen *seen, uint64_t key)
{
	record->kind = seen->kind;
	record->key = key;
	record->row = seen->row;
	record->native_stack = seen->native_stack;
	record->python_stack = seen->python_stack;
	record->freed_pool = seen->freed_pool;
	record->first_cs = clock_now_cs();
	record->target = seen->target;
}

static struct mlf_mismatch *record_of(const struct mismatches_seen *seen, bool *is_new)
{
	const struct recording_table *table = recording_segment(MLF_KIND_MISMATCHES, 0);
	if (!table && recording_add_segment(MLF_KIND_MISMATCHES, 0, MLF_MISMATCHES, sizeof(struct mlf_mismatch)))
		table = recording_segment(MLF_KIND_MISMATCHES, 0);
	uint64_t key = key_of(seen);
	for (uint32_t i = 0; table && i < table->capacity; i++) {
		struct mlf_mismatch *record = (struct mlf_mismatch *)(void *)table->base + i;
		uint32_t state = load_acquire(&record->state); // pairs with the release in mismatches_add()
		if (state == VALID && record->key == key)
			return record;
		if (state == EMPTY && cas_acq_rel(&record->state, &state, FILLING)) {
			fill(record, seen, key);
			*is_new = true;
			return record;
		}
	}
	return NULL; // or two threads at once for one: it has two records then
}

void mismatches_add(const struct mismatches_seen *seen)
{
	bool is_new = false;
	struct mlf_mismatch *record = record_of(seen, &is_new);
	count(mismatches);
	if (!record) {
		count(mismatch_full);
		return;
	}
	// Relaxed: each a fact of its own, of the latest or of all.
	store_relaxed(&record->size_bytes, seen->size_bytes);
	store_relaxed(&record->freed_bytes, seen->freed_bytes);
	store_relaxed(&record->thread, seen->thread);
	store_relaxed(&record->last_cs, clock_now_cs());
	add_relaxed(&record->count, 1);
	add_relaxed(&record->count_x1024, seen->weight_x1024);
	if (is_new)
		store_release(&record->state, VALID); // pairs with readers of the file
}
