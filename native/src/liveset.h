// liveset.h -- which addresses are live samples
//
// Layer 6. Sampled. The operations a hook needs, in this order:
//   allocation  real call, then liveset_insert()
//   free        liveset_remove(), then the real call: once free() returns another thread may own
//               the address, and a late removal would erase *its* sample
//   realloc     liveset_remove(), real call, insert again (the old values on failure)
#ifndef MEMLEAK_LIVESET_H
#define MEMLEAK_LIVESET_H

#include "memleak_format.h"

#include <stdbool.h>

struct live_sample {
	uint64_t size_bytes;
	uint32_t row; // ref
	uint32_t weight_x1024;
	uint32_t born_cs, thread;
};

// The address is about to be inserted: what else is to be done first takes longer than its lines take to come.
void liveset_prefetch(const void *address);

// False: dropped and counted. The address must not be in the set for this layer (see liveset_remove()).
bool liveset_insert(const void *address, enum mlf_layer layer, const struct live_sample *sample);

// Cold. What is known of the sample of (address, layer), which stays; false if there is none.
bool liveset_find(const void *address, enum mlf_layer layer, struct live_sample *out);

// Cold. Walks the samples of a layer while others come and go: call with *cursor 0 first; NULL at the end.
const void *liveset_next(enum mlf_layer layer, uint64_t *cursor);

// Cold. The same over all layers, with what is known of each: only every `stride`th bucket, those whose number has the rest `phase`.
const void *liveset_next_sample(uint64_t *cursor, uint32_t stride, uint32_t phase, enum mlf_layer *layer, struct live_sample *out);

// Takes out the sample of (address, layer); false if there is none. Exactly one of several callers wins.
bool liveset_remove(const void *address, enum mlf_layer layer, struct live_sample *out);

#endif
