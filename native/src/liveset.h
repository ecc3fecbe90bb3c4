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
	uint32_t born_cs, thread; // thread: with pool and region above it, see struct mlf_live
};

static inline unsigned live_sample_pool(const struct live_sample *sample)
{
	return sample->thread >> MLF_LIVE_POOL_SHIFT & MLF_LIVE_POOL_MASK;
}

// The address is about to be inserted: what else is to be done first takes longer than its lines take to come.
void liveset_prefetch(const void *address);

// Where a sample stands: good for this one and for no other that comes to stand there, and for one change of it.
struct liveset_place {
	uint64_t key;
	uint32_t slot; // in the file, in words
	uint32_t insertion; // number of the slot's, for liveset_look()
};

// The address must not be in the set for this layer (see liveset_remove()). DROPPED: counted. FULL: not counted yet, there is
// no room where the address belongs (see thinning.h).
enum liveset_inserted { LIVESET_DROPPED, LIVESET_INSERTED, LIVESET_FULL };
enum liveset_inserted liveset_try_insert(const void *address, enum mlf_layer layer, const struct live_sample *sample,
					 struct liveset_place *place);

// False: dropped and counted.
bool liveset_insert(const void *address, enum mlf_layer layer, const struct live_sample *sample);

// Cold. What is known of the sample of (address, layer), which stays; false if there is none.
bool liveset_find(const void *address, enum mlf_layer layer, struct live_sample *out);

// Cold. Walks the samples of a layer while others come and go: call with *cursor 0 first; NULL at the end.
const void *liveset_next(enum mlf_layer layer, uint64_t *cursor);

// Cold. What is known of the sample that was inserted there, also when it has been changed since: the place is good for one
// more change then. False: it is gone, or just being changed.
bool liveset_look(struct liveset_place *place, struct live_sample *out);

// Cold. Gives it another row. GONE: it was taken out before. REMOVED: somebody wanted to take it out meanwhile, and left
// that to this thread, which has done so; what its removal is to be counted as is left to the caller.
enum liveset_moved { LIVESET_GONE, LIVESET_MOVED, LIVESET_REMOVED };
enum liveset_moved liveset_move(const struct liveset_place *place, uint32_t row);

// Takes one sample out and gives another that weight, both or none of it. False: another thread was faster with one of them.
// *kept, in either case: what became of the other, as above.
bool liveset_merge(const struct liveset_place *stays, const struct liveset_place *goes, uint32_t weight_x1024, struct live_sample *gone,
		   enum liveset_moved *kept);

// Two samples that may be merged, where this address belongs: of one pool, or both of what totals count, those that stand for
// the fewest bytes. False: there are none. What they weigh together is no more than LIVESET_WEIGHT_MAX.
bool liveset_lightest(const void *address, struct liveset_place place[2], struct live_sample sample[2]);
#define LIVESET_MERGED_BELOW (16U << 20) // bytes: with any weight the product fits
#define LIVESET_WEIGHT_MAX (1U << 31)    // in 1/1024

// The bytes that a sample stands for, in 1/1024; of nothing, one.
static inline uint64_t liveset_value(const struct live_sample *sample)
{
	return (sample->size_bytes ? sample->size_bytes : 1) * sample->weight_x1024;
}

// Cold. The same over all layers that totals count (not what pools give out), with what is known of each: only every `stride`th bucket, those whose number has the rest `phase`.
const void *liveset_next_sample(uint64_t *cursor, uint32_t stride, uint32_t phase, enum mlf_layer *layer, struct live_sample *out);

// Takes out the sample of (address, layer); false if there is none. Exactly one of several callers wins, or the thread
// that is moving it does (counted as live_race: the sample is out, but the caller does not get to see it).
bool liveset_remove(const void *address, enum mlf_layer layer, struct live_sample *out);

// The same where several may stand, of different pools: the one of this pool; any if 0.
bool liveset_remove_of_pool(const void *address, enum mlf_layer layer, unsigned pool, struct live_sample *out);
bool liveset_find_of_pool(const void *address, enum mlf_layer layer, unsigned pool, struct live_sample *out);

#endif
