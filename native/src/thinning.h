// thinning.h -- room in a live set that is full
//
// Layer 8. Sampled.
#ifndef MEMLEAK_THINNING_H
#define MEMLEAK_THINNING_H

#include "liveset.h"

// As liveset_try_insert(); where that finds no room, two samples are merged first. 0: dropped and counted; else 1 and how many
// times two were.
unsigned thinning_insert(const void *address, enum mlf_layer layer, const struct live_sample *sample, struct liveset_place *place,
			 uint32_t now_cs);
#define THINNING_NS 150U // that it takes, for each segment of the live set (measured: 0.3 us with three, 0.5 us with five)

#endif
