// tracer.h -- policy: what a sampled allocation and free do
//
// Layer 11. Sampled. Before these, hooks look (tracer_gate.h) and decide (tracer_take.h).
#ifndef MEMLEAK_TRACER_H
#define MEMLEAK_TRACER_H

#include "base.h"
#include "liveset.h"
#include "memleak_format.h"

#define TRACER_MMAP_ALWAYS (64U << 10) // mappings of at least this are always recorded

// Record an allocation that succeeded. `caller` as of REGISTERS_OF_CALLER() in the hook.
void tracer_allocated(void *address, size_t size_bytes, uint32_t weight_x1024, enum mlf_layer layer,
		      enum mlf_domain domain, const struct registers *caller);

// Forget before the real free. Only needed when bitmap_test_hot(address).
void tracer_freeing(void *address, enum mlf_layer layer);

// realloc: forget before the real call, then one of the two ends.
struct tracer_moving {
	bool was_sampled;
	uint32_t recording; // its number: another may have been opened before the real call returned
	struct live_sample sample;
};
void tracer_moving(void *address, enum mlf_layer layer, struct tracer_moving *out);
void tracer_move_failed(void *address, enum mlf_layer layer, const struct tracer_moving *moving);
void tracer_moved(const struct tracer_moving *from, void *to, size_t size_bytes, uint32_t weight_x1024,
		  enum mlf_layer layer, enum mlf_domain domain,
		  const struct registers *caller); // weight 0: the new block is not sampled

struct mappings_cut;
// Mappings. tracer_unmapping() forgets what [start, start + bytes) covers before the real call.
void tracer_mapped(void *start, size_t bytes, const struct registers *caller);
void tracer_unmapping(void *start, size_t bytes, struct mappings_cut *out);
void tracer_unmap_failed(const struct mappings_cut *unmapped);

#endif
