// marks.c -- what the process held when it came near the limit of its memory
//
// Context:   cold: the chores thread, what a program without threads has instead, the opening of a recording (a forked
//            child's inside malloc: direct system calls and static buffers).
// Invariant: a mark that reads whole is whole: see struct mlf_mark. No memory is asked for: the marks have their place
//            from the beginning on.
// Why:       the kernel kills without a word. Which stacks grew on the way to the limit is then known from the file.
// Cost:      a look is at most 14 system calls, once a second, or every five while less than half is used and the process
//            itself does not grow: a file that is open for a moment takes a descriptor that the program might have got. Each minute
//            it looks for the cgroup anew, which are up to six more for each cgroup above it. A mark passes over all rows
//            once: 2 ms for 100,000.
// Proof:     tests/native/test_marks.c; tests/scenarios/test_postmortem.py
#include "marks.h"

#include "atomics.h"
#include "clock.h"
#include "memory.h"
#include "recording.h"

#define EVERY_CS 100U
#define FAR_EVERY_CS 500U
#define FAR_PERCENT 50U
#define GROWTH_PARTS 16 // of the limit: so much has come, and a process is looked at again
#define FIND_EVERY_CS 6000U
#define REARM_PERCENT 10U // below its level

static const uint32_t levels[] = {80, 90, 95};

static struct memory_cgroup cgroup;
static uint32_t looking; // 1: some thread is at it
static uint32_t due_cs, far_due_cs, find_due_cs;
static uint64_t touched_due_bytes;
static uint32_t passed; // a bit for each level
static uint64_t sequence;

// ---- the mark ------------------------------------------------------------------------------------

static uint32_t largest[MLF_MARK_ROWS];
static uint64_t largest_bytes[MLF_MARK_ROWS];
static uint32_t rows;

static void take_row(uint32_t ref, uint64_t bytes)
{
	if (!bytes || (rows == MLF_MARK_ROWS && bytes <= largest_bytes[rows - 1]))
		return;
	uint32_t at = rows < MLF_MARK_ROWS ? rows++ : rows - 1;
	for (; at && largest_bytes[at - 1] < bytes; at--) {
		largest[at] = largest[at - 1];
		largest_bytes[at] = largest_bytes[at - 1];
	}
	largest[at] = ref;
	largest_bytes[at] = bytes;
}

// The estimated live bytes of all rows.
static uint64_t take_rows(void)
{
	const struct recording_table *table;
	uint64_t total = 0;
	rows = 0;
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_ROW_INDEX, order)); order++) {
		const uint64_t *words = (const uint64_t *)(const void *)table->base;
		for (uint32_t i = 0; i < table->capacity; i++) {
			uint32_t ref = (uint32_t)load_acquire(&words[i]); // pairs with index_insert()
			if (!ref)
				continue;
			const struct mlf_row *row = recording_at(ref);
			if (row->domain >= MLF_POOL_DOMAIN) // within memory of other rows
				continue;
			uint64_t freed = load_relaxed(&row->freed_bytes), allocated = load_relaxed(&row->alloc_bytes);
			uint64_t live = allocated > freed ? allocated - freed : 0;
			total += live;
			take_row(ref, live);
		}
	}
	return total;
}

static bool write_mark(uint32_t level, const struct memory_bound *bound, uint64_t resident_bytes)
{
	const struct recording_table *table = recording_segment(MLF_KIND_MARKS, 0);
	if (!table)
		return false;
	uint64_t live = take_rows(), number = sequence + 1;
	struct mlf_mark *mark = (struct mlf_mark *)(void *)table->base + sequence % MLF_MARKS;
	exchange_acq_rel(&mark->sequence, 0); // acquire: nothing of what follows is seen before it
	exchange_acq_rel(&mark->sequence_again, 0);
	mark->cs = clock_now_cs();
	mark->level_percent = level;
	mark->limit_kind = bound->kind;
	mark->rows = rows;
	mark->limit_bytes = bound->limit_bytes;
	mark->used_bytes = bound->used_bytes;
	mark->rss_bytes = resident_bytes;
	mark->live_bytes = live;
	__builtin_memcpy(mark->row, largest, sizeof(mark->row));
	__builtin_memcpy(mark->row_bytes, largest_bytes, sizeof(mark->row_bytes));
	store_release(&mark->sequence_again, number); // both pair with readers of the file
	store_release(&mark->sequence, number);
	sequence = number;
	return true;
}

// ---- when ----------------------------------------------------------------------------------------

static uint32_t percent_used(const struct memory_bound *bound)
{
	return bound->limit_bytes >= 100 ? (uint32_t)(bound->used_bytes / (bound->limit_bytes / 100)) : 0;
}

// The highest level that is passed for the first time on this way up; 0: none.
static uint32_t level_passed(uint32_t percent)
{
	uint32_t level = 0;
	for (unsigned i = 0; i < ARRAY_LEN(levels); i++) {
		if (percent >= levels[i]) {
			level = passed & 1U << i ? level : levels[i];
			passed |= 1U << i;
		} else if (percent + REARM_PERCENT < levels[i]) {
			passed &= ~(1U << i);
		}
	}
	return level;
}

bool marks_are_due(void)
{
	uint32_t now_cs = clock_now_cs();
	return now_cs >= load_relaxed(&due_cs) &&
	       (now_cs >= load_relaxed(&far_due_cs) || memory_touched_bytes() >= load_relaxed(&touched_due_bytes));
}

bool marks_look(void)
{
	if (exchange_acq_rel(&looking, 1))
		return false;
	uint32_t now_cs = clock_now_cs();
	if (now_cs >= find_due_cs) {
		memory_find_cgroup(&cgroup);
		find_due_cs = now_cs + FIND_EVERY_CS;
	}
	uint64_t resident_bytes;
	struct memory_bound bound = memory_look(&cgroup, &resident_bytes);
	struct mlf_header *header = recording.header;
	store_relaxed(&header->limit_kind, bound.kind);
	store_relaxed(&header->limit_bytes, bound.limit_bytes);
	store_relaxed(&header->limit_used_bytes, bound.used_bytes);
	store_relaxed(&header->rss_bytes, resident_bytes);
	store_relaxed(&header->limit_seen_cs, now_cs);
	uint32_t percent = percent_used(&bound), level = level_passed(percent);
	bool written = level && write_mark(level, &bound, resident_bytes);
	store_relaxed(&touched_due_bytes, memory_touched_bytes() + bound.limit_bytes / GROWTH_PARTS);
	store_relaxed(&far_due_cs, percent < FAR_PERCENT ? now_cs + FAR_EVERY_CS : 0);
	store_relaxed(&due_cs, now_cs + EVERY_CS);
	store_release(&looking, 0); // pairs with the exchange above
	return written;
}

void marks_begin(void)
{
	store_relaxed(&looking, 0); // a forked child may have been cut off from the thread that was at it
	find_due_cs = 0;
	passed = 0;
	sequence = 0;
	marks_look();
}
