// thinning.h -- room in a live set that is full
//
// Layer 8. Sampled.
#ifndef MEMLEAK_THINNING_H
#define MEMLEAK_THINNING_H

#include "liveset.h"

// As liveset_try_insert(); where that finds no room, two samples are merged first. False: dropped and counted.
bool thinning_insert(const void *address, enum mlf_layer layer, const struct live_sample *sample, struct liveset_place *place,
		     uint32_t now_cs);

#endif
