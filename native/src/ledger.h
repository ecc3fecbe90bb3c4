// ledger.h -- what was resident, and which allocator held how much of it, over time
//
// Layer 8. Cold, but for ledger_python_arena(): any thread, any moment. The rest: not while a recording is being replaced.
#ifndef MEMLEAK_LEDGER_H
#define MEMLEAK_LEDGER_H

#include "base.h"

struct ledger_heap { // what the C library's allocator says of itself
	uint32_t state; // enum mlf_heap
	uint32_t took_us;
	uint64_t bytes, used_bytes, free_bytes, fast_bytes, top_bytes, mapped_bytes;
};

// A recording was opened.
void ledger_begin(void);

// It is time for a look: ten seconds since the last one, in the beginning less.
bool ledger_is_due(void);

// Writes one down. A few thousand instructions for each thousand live samples, and one small file.
void ledger_look(void);

// What the next looks say of the C library's heaps. One caller at a time.
void ledger_note_heap(const struct ledger_heap *heap);

// An arena of Python's allocator has come, or has gone: a negative number.
void ledger_python_arena(long bytes);

#endif
