// rows.c -- one row per (stack, domain, labels): its counters and its history
//
// Context:   sampled, except rows_open().
// Invariant: counters only grow; freed_* never passes what alloc_* will be once the adds in flight
//            have landed. A row is whole before the index points to it.
// Why:       live figures are sums over the live set; these counters serve totals, peak and history.
//            History exists only from a row's second history unit on: short-lived programs never
//            pay 784 bytes a row.
// Proof:     tests/native/test_rows.c
#include "rows.h"

#include "catalog.h"
#include "index.h"
#include "labels.h"
#include "modules.h"
#include "recording.h"
#include "stats.h"

static uint64_t mix_key(uint64_t hash, uint64_t python_hash, uint64_t domain, uint64_t label)
{
	uint64_t key = (hash ^ python_hash * MLF_CHECK_3 ^ (label << 8 | domain) * MLF_CHECK_2) * MLF_CHECK_1;
	key ^= key >> 32;
	return key ? key : 1; // 0 would read as "no key"
}

// Between malloc and its caller may stand a hook of Python's allocators.
static bool is_ours(uint64_t frame)
{
	return modules_get((unsigned)(frame >> MLF_FRAME_MODULE_SHIFT))->flags & MLF_MODULE_CORE;
}

static uint32_t store_stack(const uint64_t *frame, unsigned frames, bool truncated, uint64_t key)
{
	uint32_t ref = index_find(MLF_KIND_STACK_INDEX, key);
	if (ref)
		return ref;
	unsigned kept = 0;
	for (unsigned i = 0; i < frames; i++)
		kept += !is_ours(frame[i]);
	uint32_t bytes = (uint32_t)(sizeof(struct mlf_stack) + kept * sizeof(uint64_t));
	struct mlf_stack *stack = recording_take(bytes, MLF_REF_BYTES);
	if (!stack)
		return 0;
	stack->record = (struct mlf_record){.bytes = bytes, .kind = MLF_RECORD_STACK, .version = 1};
	stack->key = key;
	stack->frames = (uint16_t)kept;
	stack->flags = truncated ? MLF_STACK_TRUNCATED : 0;
	for (unsigned i = 0, to = 0; i < frames; i++)
		if (!is_ours(frame[i]))
			stack->frame[to++] = frame[i];
	return index_insert(MLF_KIND_STACK_INDEX, key, recording_ref(stack));
}

uint32_t rows_store_stack(const struct rows_stack *stack)
{
	for (unsigned i = 0; i < stack->frames; i++)
		catalog_module((unsigned)(stack->frame[i] >> MLF_FRAME_MODULE_SHIFT));
	uint32_t ref = store_stack(stack->frame, stack->frames, stack->truncated, stack->hash ? stack->hash : 1);
	if (!ref)
		count(stack_full);
	return ref;
}

static struct mlf_row *new_row(uint64_t key, enum mlf_domain domain, uint32_t now_cs)
{
	struct mlf_row *row = recording_take(sizeof(struct mlf_row), 64);
	if (!row)
		return NULL;
	row->record = (struct mlf_record){.bytes = sizeof(*row), .kind = MLF_RECORD_ROW, .version = 1};
	row->key = key;
	row->domain = (uint8_t)domain;
	row->first_cs = row->last_cs = now_cs;
	return row;
}

// Of all rows; on a line of its own, which every sample writes. Relaxed: two numbers for whoever asks, which guard nothing.
static struct rows_held held __attribute__((aligned(64)));

static void hold(uint64_t bytes)
{
	uint64_t now = add_relaxed(&held.bytes, bytes) + bytes;
	if (likely((int64_t)now > 0)) // below 0 for a moment: another thread has taken off what is not added yet
		max_relaxed(&held.peak_bytes, now);
}

// What pools give out lies in memory that has been counted as somebody's.
static bool is_in_totals(const struct mlf_row *row) { return likely(row->domain < MLF_POOL_DOMAIN); }

static void let_go(uint64_t bytes) { add_relaxed(&held.bytes, -bytes); }

struct rows_held rows_held_now(void)
{
	struct rows_held now = {load_relaxed(&held.bytes), load_relaxed(&held.peak_bytes)};
	now.bytes = (int64_t)now.bytes > 0 ? now.bytes : 0;
	now.peak_bytes = now.peak_bytes > now.bytes ? now.peak_bytes : now.bytes;
	return now;
}

void rows_reset_peak(void) { store_relaxed(&held.peak_bytes, rows_held_now().bytes); }

static struct mlf_row *overflow_row(void) { return recording_at(recording.header->overflow_row); }

void rows_open(void)
{
	held = (struct rows_held){0, 0};
	struct mlf_row *row = new_row(1, MLF_DOMAIN_NONE, 1);
	if (!row)
		return; // recording_open() leaves room for far more than this
	row->flags = MLF_ROW_OVERFLOW;
	store_release(&recording.header->overflow_row, recording_ref(row)); // pairs with readers of the file
	index_insert(MLF_KIND_ROW_INDEX, 1, recording_ref(row));
}

static uint64_t key_of(const struct rows_stack *stack, enum mlf_domain domain)
{
	return mix_key(stack->hash, stack->python_hash, domain, stack->label);
}

struct mlf_row *rows_find(const struct rows_stack *stack, enum mlf_domain domain)
{
	uint32_t ref = index_find(MLF_KIND_ROW_INDEX, key_of(stack, domain));
	return likely(ref) ? recording_at(ref) : NULL;
}

struct mlf_row *rows_of(const struct rows_stack *stack, enum mlf_domain domain, uint32_t now_cs)
{
	uint64_t key = key_of(stack, domain);
	uint32_t ref = index_find(MLF_KIND_ROW_INDEX, key);
	if (ref) {
		struct mlf_row *row = recording_at(ref);
		if (stack->python && !row->python_stack) // there is room by now
			store_release(&row->python_stack, stack->python); // pairs with readers of the file
		return row;
	}

	const uint64_t *frame = stack->frame;
	unsigned frames = stack->frames, plumbing = 0;
	for (unsigned i = 0; i < frames; i++)
		catalog_module(frame[i] >> MLF_FRAME_MODULE_SHIFT);
	while (plumbing < frames && catalog_is_plumbing(frame[plumbing]))
		plumbing++;
	if (plumbing && domain == MLF_DOMAIN_MALLOC)
		domain = MLF_DOMAIN_OPERATOR_NEW;
	// The key is that of the whole stack: with or without plumbing, one to one.
	uint32_t stack_ref = store_stack(frame + plumbing, frames - plumbing, stack->truncated, stack->hash ? stack->hash : 1);
	if (!stack_ref) {
		count(stack_full);
		return overflow_row();
	}
	struct mlf_row *row = new_row(key, domain, now_cs);
	labels_note(stack->label);
	if (row) {
		row->label_set = stack->label;
		row->native_stack = stack_ref;
		row->python_stack = stack->python;
		row->flags = stack->python_lost ? MLF_ROW_PYTHON_LOST : 0;
		ref = index_insert(MLF_KIND_ROW_INDEX, key, recording_ref(row));
	}
	if (!ref) {
		count(row_full);
		return overflow_row();
	}
	return recording_at(ref);
}

// The key of a row under another set of labels: what it was made of is known from its stacks. A row that was made when there
// was no room for its Python half has lost that: its twin has a key of its own, which other rows of the same content may stand beside.
static uint64_t twin_key(const struct mlf_row *row, uint32_t label)
{
	uint64_t hash = ((const struct mlf_stack *)recording_at(row->native_stack))->key;
	uint64_t python = row->python_stack ? ((const struct mlf_python_stack *)recording_at(row->python_stack))->key : 0;
	enum mlf_domain domain = row->domain;
	if (domain == MLF_DOMAIN_OPERATOR_NEW && mix_key(hash, python, domain, row->label_set) != row->key)
		domain = MLF_DOMAIN_MALLOC; // it was asked for as that, see rows_of()
	if (mix_key(hash, python, domain, row->label_set) != row->key)
		hash = row->key;
	return mix_key(hash, python, domain, label);
}

struct mlf_row *rows_twin(const struct mlf_row *row, uint32_t label, uint32_t now_cs)
{
	if (row->flags & MLF_ROW_OVERFLOW)
		return NULL;
	uint64_t key = twin_key(row, label);
	uint32_t ref = index_find(MLF_KIND_ROW_INDEX, key);
	if (ref)
		return recording_at(ref);
	struct mlf_row *twin = new_row(key, row->domain, now_cs);
	if (!twin)
		return NULL;
	labels_note(label);
	twin->label_set = label;
	twin->native_stack = row->native_stack;
	twin->python_stack = load_acquire(&row->python_stack); // pairs with rows_of()
	twin->flags = row->flags;
	ref = index_insert(MLF_KIND_ROW_INDEX, key, recording_ref(twin));
	return ref ? recording_at(ref) : NULL;
}

// ---- history -----------------------------------------------------------------------------------

void rows_write_slot(uint64_t *slots, unsigned level, uint32_t tick, uint64_t value)
{
	uint32_t period = tick >> level * MLF_HISTORY_LEVEL_SHIFT;
	uint64_t tag = 1 + period % MLF_HISTORY_TAG_MASK;
	uint64_t *slot = &slots[level * MLF_HISTORY_SLOTS + period % MLF_HISTORY_SLOTS];
	store_relaxed(slot, tag << MLF_HISTORY_VALUE_BITS | value); // relaxed: one word is one fact
}

static void write_slot(struct mlf_history *history, unsigned level, uint32_t tick, uint64_t bytes)
{
	uint64_t limit = (1ULL << MLF_HISTORY_VALUE_BITS) - 1;
	rows_write_slot(history->slot, level, tick, bytes < limit ? bytes : limit);
}

static struct mlf_history *history_of(struct mlf_row *row)
{
	uint32_t ref = load_acquire(&row->history); // pairs with the CAS below
	if (ref)
		return recording_at(ref);
	struct mlf_history *history = recording_take(sizeof(*history), MLF_REF_BYTES);
	if (!history) {
		count(history_full);
		return NULL;
	}
	history->record = (struct mlf_record){.bytes = sizeof(*history), .kind = MLF_RECORD_HISTORY, .version = 1};
	if (!cas_acq_rel(&row->history, &ref, recording_ref(history)))
		history = recording_at(ref);
	return history;
}

static void note_history(struct mlf_row *row, uint64_t before, uint64_t after, uint32_t now_cs)
{
	uint32_t tick = 1 + now_cs / MLF_HISTORY_UNIT_CS, last = load_relaxed(&row->history_tick);
	if (tick == last) {
		uint32_t ref = load_acquire(&row->history);
		if (ref)
			write_slot(recording_at(ref), 0, tick, after);
		return;
	}
	// Whoever moves the tick closes the periods that ended; relaxed, the slots are facts of their own.
	if (tick < last || !cas_relaxed(&row->history_tick, &last, tick) || last == 0)
		return;
	struct mlf_history *history = history_of(row);
	if (!history)
		return;
	for (unsigned level = 0; level < MLF_HISTORY_LEVELS; level++)
		write_slot(history, level, last, before);
	write_slot(history, 0, tick, after);
}

// ---- counters ----------------------------------------------------------------------------------

static uint64_t scaled(uint64_t size_bytes, uint32_t weight_x1024)
{
	// Weights above one belong to sizes below 2^24, so the product fits.
	return weight_x1024 == 1024 ? size_bytes : (size_bytes * weight_x1024 + 512) >> 10;
}

static uint64_t live_bytes(uint64_t allocated, uint64_t freed) { return allocated > freed ? allocated - freed : 0; }

static void account_held(struct mlf_row *row, uint64_t bytes, uint32_t count_x1024, uint32_t now_cs)
{
	// Relaxed throughout: readers take freed_* before alloc_* and clamp.
	if (is_in_totals(row))
		hold(bytes);
	add_relaxed(&row->alloc_count_x1024, count_x1024);
	// Freed last: an older figure, kept over a preemption, would add all that was freed since to the peak.
	uint64_t allocated = add_relaxed(&row->alloc_bytes, bytes);
	uint64_t before = live_bytes(allocated, load_relaxed(&row->freed_bytes));
	if (before + bytes > load_relaxed(&row->peak_bytes)) {
		max_relaxed(&row->peak_bytes, before + bytes);
		store_relaxed(&row->peak_cs, now_cs);
	}
	note_history(row, before, before + bytes, now_cs);
}

void rows_add(struct mlf_row *row, uint64_t size_bytes, uint32_t weight_x1024, uint32_t now_cs)
{
	add_relaxed(&row->alloc_samples, 1);
	store_relaxed(&row->last_cs, now_cs);
	account_held(row, scaled(size_bytes, weight_x1024), weight_x1024, now_cs);
}

static void account_freed(struct mlf_row *row, uint64_t bytes, uint32_t now_cs)
{
	if (is_in_totals(row))
		let_go(bytes);
	uint64_t allocated = load_relaxed(&row->alloc_bytes);
	uint64_t freed = add_relaxed(&row->freed_bytes, bytes);
	note_history(row, live_bytes(allocated, freed), live_bytes(allocated, freed + bytes), now_cs);
}

void rows_hand_over(struct mlf_row *row, uint64_t size_bytes, uint32_t weight_x1024, uint32_t now_cs)
{
	add_relaxed(&row->freed_count_x1024, weight_x1024);
	account_freed(row, scaled(size_bytes, weight_x1024), now_cs);
}

void rows_remove(struct mlf_row *row, uint64_t size_bytes, uint32_t weight_x1024, uint32_t now_cs)
{
	add_relaxed(&row->freed_samples, 1);
	rows_hand_over(row, size_bytes, weight_x1024, now_cs);
}

void rows_take_over(struct mlf_row *row, uint64_t size_bytes, uint32_t from_x1024, uint32_t to_x1024, uint32_t now_cs)
{
	uint64_t bytes = scaled(size_bytes, to_x1024) - scaled(size_bytes, from_x1024);
	add_relaxed(&row->moved_count_x1024, to_x1024 - from_x1024); // first: a total must not seem to be more
	add_relaxed(&row->moved_bytes, bytes);
	account_held(row, bytes, to_x1024 - from_x1024, now_cs);
}

void rows_shrink(struct mlf_row *row, uint64_t bytes, uint32_t now_cs) { account_freed(row, bytes, now_cs); }

void rows_move(struct mlf_row *from, struct mlf_row *to, uint64_t size_bytes, uint32_t weight_x1024, uint32_t now_cs)
{
	rows_remove(from, size_bytes, weight_x1024, now_cs); // first: what all rows hold must not seem to have been more
	add_relaxed(&from->moved_count_x1024, weight_x1024);
	add_relaxed(&from->moved_bytes, scaled(size_bytes, weight_x1024));
	rows_add(to, size_bytes, weight_x1024, now_cs);
}
