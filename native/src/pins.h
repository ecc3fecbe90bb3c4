// pins.h -- how the live samples lie in memory: sums by kind, and who holds pages that hold little else
//
// Layer 7. Cold. One caller at a time, while the recording is not being replaced.
#ifndef MEMLEAK_PINS_H
#define MEMLEAK_PINS_H

#include "base.h"

struct pins_sums { // estimated live bytes, with what the allocator adds to each block
	uint64_t native_bytes; // in the C library's heaps
	uint64_t large_bytes;  // in mappings that it made for one block
	uint64_t python_bytes; // small blocks of Python's allocator
	uint64_t mapped_bytes; // mappings of the program's own
	uint64_t touched_bitmap_bytes; // of the free check, at least
};

// Walks the live samples twice, a part of them if there are many, and writes the record of MLF_KIND_PINS.
void pins_look(uint32_t now_cs, struct pins_sums *out);

// A recording was opened.
void pins_begin(void);

#endif
