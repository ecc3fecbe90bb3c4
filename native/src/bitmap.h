// bitmap.h -- the free check: could this address be a live sample?
//
// A direct-mapped map of address space: one 64-byte line covers 16 KiB of heap and inherits the heap's locality. The cost does not depend on
// the number of live samples. A set bit means "ask the live set"; a clear bit is a promise.
// Rejected, measured (ns over a plain free with 100 k live samples): hashed filters 35..48, a
// direct pointer set 48, an address range 7 but it makes sampled blocks un-freeable by code out of
// reach; this one 2..3.
//
// Layer 4. bitmap_test_hot() is hot, the rest sampled or cold.
#ifndef MEMLEAK_BITMAP_H
#define MEMLEAK_BITMAP_H

#include "atomics.h"

#include <stdbool.h>

// One bit per 32 bytes: no two glibc chunks are closer (a neighbour that shares a bit costs a look-up,
// nothing else), and bits 5..31 of the address choose it without a mask.
#define BITMAP_GRANULE_SHIFT 5
#define BITMAP_BYTES (1UL << (32 - BITMAP_GRANULE_SHIFT - 3)) // 16 MiB of address space

// Static, so that the very first free() of the process may read it: untouched pages are zero pages.
extern uint32_t bitmap_words[BITMAP_BYTES / 4] HIDDEN;

// The number of the bit an address maps to: live samples with equal numbers share a bit.
static inline uint32_t bitmap_slot(const void *address) { return (uint32_t)(uintptr_t)address >> BITMAP_GRANULE_SHIFT; }

static inline bool bitmap_test_hot(const void *address)
{
	uint32_t slot = bitmap_slot(address);
	// Relaxed: who frees an address got it from who allocated it, and that handover orders the
	// bit too (set before malloc returned).
	return unlikely(load_relaxed(&bitmap_words[slot >> 5]) >> (slot & 31) & 1);
}

void bitmap_set(const void *address);
void bitmap_clear(const void *address);


// Might any address of [low, high) be one? True as well of a neighbour's sake, and of ranges that take long to look through.
#define BITMAP_ANY_MOST (64UL << 20)
bool bitmap_any(uintptr_t low, uintptr_t high);

void bitmap_open(void); // cold: tell the kernel how to treat the pages
void bitmap_drop(void); // cold, single-threaded: all bits clear (forked child)

#endif
