// rows.h -- one row per (stack, domain, labels): its counters and its history
//
// Layer 7. Sampled, unless said otherwise.
#ifndef MEMLEAK_ROWS_H
#define MEMLEAK_ROWS_H

#include "memleak_format.h"

#include <stdbool.h>

struct rows_stack {
	const uint64_t *frame;
	unsigned frames;
	uint64_t hash;
	bool truncated;
	uint32_t python; // ref of its Python half, 0 = none
	bool python_lost; // it has one that found no room
	uint64_t python_hash;
	uint32_t label; // number of the set of labels that it was made under, 0 = none
};

// The row of a stack and domain if there is one. Looks at the stack's hashes and label alone.
struct mlf_row *rows_find(const struct rows_stack *stack, enum mlf_domain domain);

// The row of a stack and domain, made at first sight. Never NULL: what finds no room is counted and goes to
// the overflow row. Leading frames that are operator new's are cut off and turn the domain
// `malloc` into `operator new`.
struct mlf_row *rows_of(const struct rows_stack *stack, enum mlf_domain domain, uint32_t now_cs);

// The row of what a row stands for under another set of labels, made at first sight; NULL: there is no room, or it is the
// overflow row. Cold.
struct mlf_row *rows_twin(const struct mlf_row *row, uint32_t label, uint32_t now_cs);

// A live sample goes from one row to another.
void rows_move(struct mlf_row *from, struct mlf_row *to, uint64_t size_bytes, uint32_t weight_x1024, uint32_t now_cs);

// One more sample lives (dies), standing for weight/1024 allocations of size_bytes.
void rows_add(struct mlf_row *row, uint64_t size_bytes, uint32_t weight_x1024, uint32_t now_cs);
void rows_remove(struct mlf_row *row, uint64_t size_bytes, uint32_t weight_x1024, uint32_t now_cs);

// Another sample stands for this one, too, which is not freed: it is in no freed_samples.
void rows_hand_over(struct mlf_row *row, uint64_t size_bytes, uint32_t weight_x1024, uint32_t now_cs);

// The other's weight has risen from one to the other.
void rows_take_over(struct mlf_row *row, uint64_t size_bytes, uint32_t from_x1024, uint32_t to_x1024, uint32_t now_cs);

// `bytes` of a live mapping are gone, the mapping is not (weight 1).
void rows_shrink(struct mlf_row *row, uint64_t bytes, uint32_t now_cs);

// Estimated live bytes of all rows, and the most they have been since the recording was opened or the peak was reset.
struct rows_held {
	uint64_t bytes, peak_bytes;
};
struct rows_held rows_held_now(void);
void rows_reset_peak(void); // cold

// Stores a stack that belongs to no row; its ref, 0: no room, which is counted.
uint32_t rows_store_stack(const struct rows_stack *stack);
// Writes a value of at most MLF_HISTORY_VALUE_BITS bits into the word of a level's period that holds `tick`.
void rows_write_slot(uint64_t *slots, unsigned level, uint32_t tick, uint64_t value);

// Makes the overflow row of a newly opened recording; cold.
void rows_open(void);

#endif
