// snapshot.h -- which loaded object is mapped at an address? by a sorted copy of the loader's list
//
// Layer 3. snapshot_find() is sampled; the rest is cold, one thread at a time.
#ifndef MEMLEAK_SNAPSHOT_H
#define MEMLEAK_SNAPSHOT_H

#include "base.h"

#define SNAPSHOT_SPANS 2048U // more than these are not noted

// The id that was noted for pc; 0 = none, or the newest snapshot is not of the list's generation, which may change meanwhile.
unsigned snapshot_find(uintptr_t pc, const uint64_t *generation);

struct snapshot;
struct snapshot *snapshot_begin(void); // an empty one, marked as being written
void snapshot_add(struct snapshot *s, uintptr_t low, uintptr_t high, unsigned id);
void snapshot_publish(struct snapshot *s, uint64_t generation);
bool snapshot_is_of(uint64_t generation); // the newest

#endif
