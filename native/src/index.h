// index.h -- key -> record, insert-only, over the segments of one kind
//
// Layer 6. Sampled. Keys are 64-bit hashes; records keep theirs at offset 8, so a match is checked
// in full. 100,000 keys collide with probability 3e-10; no deeper comparison is made.
#ifndef MEMLEAK_INDEX_H
#define MEMLEAK_INDEX_H

#include "memleak_format.h"

// Ref of the record with this key, 0 if none.
uint32_t index_find(enum mlf_kind kind, uint64_t key);

// Publishes a finished record under its key. Returns the ref now in the index: `ref`, or that of another
// thread that was first; 0 if there is no room.
uint32_t index_insert(enum mlf_kind kind, uint64_t key, uint32_t ref);

#endif
