// bitmap.c -- the free check's memory
//
// Context:   bitmap_set() and bitmap_clear() are sampled; open and drop are cold.
// Invariant: the bit of every live sample is set. liveset.c says who may clear one.
// Why:       .bss, because free() may be called before anything of ours has run; never huge pages (one
//            touched bit would cost 2 MiB), left out of core dumps.
// Proof:     tests/native/test_liveset.c; tests/models/liveset.pml
#include "bitmap.h"

#include "sys.h"

uint32_t bitmap_words[BITMAP_BYTES / 4] __attribute__((aligned(4096)));

void bitmap_set(const void *address)
{
	uint32_t slot = bitmap_slot(address);
	or_seq_cst(&bitmap_words[slot >> 5], 1U << (slot & 31));
}

void bitmap_clear(const void *address)
{
	uint32_t slot = bitmap_slot(address);
	and_seq_cst(&bitmap_words[slot >> 5], ~(1U << (slot & 31)));
}

bool bitmap_any(uintptr_t low, uintptr_t high)
{
	if (high <= low || high - low > BITMAP_ANY_MOST)
		return high > low;
	uint32_t word = bitmap_slot((const void *)low) >> 5, last = bitmap_slot((const void *)(high - 1)) >> 5;
	while (!load_relaxed(&bitmap_words[word])) { // relaxed: as bitmap_test_hot()
		if (word == last)
			return false;
		word = (word + 1) % (BITMAP_BYTES / 4);
	}
	return true;
}

void bitmap_open(void)
{
	sys_madvise(bitmap_words, BITMAP_BYTES, MADV_NOHUGEPAGE);
	sys_madvise(bitmap_words, BITMAP_BYTES, MADV_DONTDUMP);
}

// Private anonymous memory: dropped pages read as zero again.
void bitmap_drop(void) { sys_madvise(bitmap_words, BITMAP_BYTES, MADV_DONTNEED); }
