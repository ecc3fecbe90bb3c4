// ledger.c -- what was resident, and which allocator held how much of it, over time
//
// Context:   cold: the chores thread, what a program without threads has instead, the end of a recording. ledger_python_arena()
//            is called inside Python's allocator: one addition.
// Invariant: an entry that reads whole is whole: as a mark. No memory is asked for: entries have their place from the beginning on.
// Why:       resident memory that is no live block is the allocator's, the kernel's or nobody's that we see; which of them it was, and since
//            when, must be known of a process that is dead, too. Four times as rare from level to level, 96 looks go
//            back two days.
// Cost:      one small file (25 us), the live samples (pins.c), 6 entries of 184 bytes. No walk over pages: the kernel has these sums.
// Proof:     tests/native/test_ledger.c; tests/scenarios/test_ledger_workloads.py
#include "ledger.h"

#include "atomics.h"
#include "clock.h"
#include "memory.h"
#include "pins.h"
#include "recording.h"

#define LEAST_CS 90U

static char text[8192]; // the line of groups may be long
static uint32_t looking; // 1: some thread is at it
static uint32_t due_cs;
static uint64_t sequence;
static struct ledger_heap heap;
static uint32_t heap_cs;
static int64_t python_arenas; // of this process, whether or not it records

void ledger_python_arena(long bytes) { add_relaxed(&python_arenas, bytes); }

void ledger_note_heap(const struct ledger_heap *told)
{
	if (told->state == MLF_HEAP_TOLD) {
		heap = *told;
		heap_cs = clock_now_cs();
	} else {
		heap.state = told->state;
	}
}

void ledger_begin(void)
{
	store_relaxed(&looking, 0); // a forked child may have been cut off from the thread that was at it
	store_relaxed(&due_cs, 0);
	heap = (struct ledger_heap){0};
	heap_cs = 0;
	sequence = 0;
	pins_begin();
}

bool ledger_is_due(void) { return clock_now_cs() >= load_relaxed(&due_cs); }

static void write_entry(struct mlf_ledger *to, const struct mlf_ledger *entry)
{
	exchange_acq_rel(&to->sequence, 0); // acquire: nothing of what follows is seen before it
	exchange_acq_rel(&to->sequence_again, 0);
	uint64_t *words = (uint64_t *)(void *)to;
	const uint64_t *from = (const uint64_t *)(const void *)entry;
	for (unsigned i = 1; i + 1 < sizeof(*to) / sizeof(uint64_t); i++)
		store_relaxed(&words[i], from[i]);
	store_release(&to->sequence_again, entry->sequence); // both pair with readers of the file
	store_release(&to->sequence, entry->sequence);
}

static uint64_t at_least_0(int64_t v) { return v > 0 ? (uint64_t)v : 0; }

static void look(const struct recording_table *table)
{
	struct memory_split split;
	struct pins_sums live;
	uint32_t now_cs = clock_now_cs(), tick = now_cs / MLF_LEDGER_UNIT_CS;
	if (!memory_look_at_split(text, sizeof(text), &split))
		return;
	pins_look(now_cs, &live);
	const struct mlf_ledger entry = {
	    .sequence = ++sequence,
	    .cs = now_cs,
	    .threads = split.threads,
	    .anonymous_bytes = split.anonymous_bytes,
	    .file_bytes = split.file_bytes,
	    .shared_bytes = split.shared_bytes,
	    .swapped_bytes = split.swapped_bytes,
	    .locked_bytes = split.locked_bytes,
	    .page_table_bytes = split.page_table_bytes,
	    .native_bytes = live.native_bytes,
	    .large_bytes = live.large_bytes,
	    .python_bytes = live.python_bytes,
	    .mapped_bytes = live.mapped_bytes,
	    .python_arena_bytes = at_least_0(load_relaxed(&python_arenas)),
	    .own_bytes = load_relaxed(&recording.header->room_used) + live.touched_bitmap_bytes,
	    .heap_state = heap.state,
	    .heap_cs = heap_cs,
	    .heap_us = heap.took_us,
	    .heap_bytes = heap.bytes,
	    .heap_used_bytes = heap.used_bytes,
	    .heap_free_bytes = heap.free_bytes,
	    .heap_fast_bytes = heap.fast_bytes,
	    .heap_top_bytes = heap.top_bytes,
	    .heap_mapped_bytes = heap.mapped_bytes,
	};
	struct mlf_ledger *entries = (struct mlf_ledger *)(void *)table->base;
	for (unsigned level = 0; level < MLF_LEDGER_LEVELS; level++)
		write_entry(&entries[level * MLF_LEDGER_SLOTS + (tick >> level * MLF_LEDGER_LEVEL_SHIFT) % MLF_LEDGER_SLOTS], &entry);
}

void ledger_look(void)
{
	const struct recording_table *table = recording_segment(MLF_KIND_LEDGER, 0);
	if (!table || exchange_acq_rel(&looking, 1))
		return;
	uint32_t now_cs = clock_now_cs(), wait = now_cs / 4; // closer together in the beginning
	store_relaxed(&due_cs, now_cs + (wait < LEAST_CS ? LEAST_CS : wait < MLF_LEDGER_UNIT_CS ? wait : MLF_LEDGER_UNIT_CS));
	look(table);
	store_release(&looking, 0); // pairs with the exchange above
}
