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

void bitmap_open(void)
{
	sys_madvise(bitmap_words, BITMAP_BYTES, MADV_NOHUGEPAGE);
	sys_madvise(bitmap_words, BITMAP_BYTES, MADV_DONTDUMP);
}

// Private anonymous memory: dropped pages read as zero again.
void bitmap_drop(void) { sys_madvise(bitmap_words, BITMAP_BYTES, MADV_DONTNEED); }
