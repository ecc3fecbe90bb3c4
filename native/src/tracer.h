// tracer.h -- policy: what a sampled allocation and free do
//
// Layer 8. Sampled, unless marked cold. Hooks call these and nothing below.
#ifndef MEMLEAK_TRACER_H
#define MEMLEAK_TRACER_H

#include "base.h"
#include "memleak_format.h"
#include "sampler.h"

// What the look at a multiple of 64 calls checks. Written by cold code.
struct tracer_gate {
	uint32_t *armed;          // reads 0 in a forked child, until it has a recording of its own
	const uint64_t *interval; // the knob word that readers may change
};
extern struct tracer_gate tracer_gate HIDDEN;

// After sampler_pass_hot() said no: true if nothing is to be done after all.
static inline bool tracer_look_hot(size_t size_bytes)
{
	return load_relaxed(tracer_gate.armed) && sampler_look_hot(size_bytes, load_relaxed(tracer_gate.interval));
}

// After both said no: the weight this allocation is to be recorded with, 0 = not.
uint32_t tracer_take(size_t size_bytes);

// Record an allocation that succeeded. `caller` as of REGISTERS_OF_CALLER() in the hook.
void tracer_allocated(void *address, size_t size_bytes, uint32_t weight_x1024, enum mlf_layer layer,
		      enum mlf_domain domain, const struct registers *caller);

// Forget before the real free. Only needed when bitmap_test_hot(address).
void tracer_freeing(void *address, enum mlf_layer layer);

// realloc: forget before the real call, then one of the two ends.
struct tracer_moving {
	bool was_sampled;
	uint64_t size_bytes;
	uint32_t row, weight_x1024, born_cs, thread;
};
void tracer_moving(void *address, struct tracer_moving *out);
void tracer_move_failed(void *address, const struct tracer_moving *moving);
void tracer_moved(const struct tracer_moving *from, void *to, size_t size_bytes, uint32_t weight_x1024,
		  const struct registers *caller); // weight 0: the new block is not sampled

// Mappings. tracer_unmapping() forgets what [start, start + bytes) covers before the real call.
void tracer_mapped(void *start, size_t bytes, const struct registers *caller);
#define TRACER_UNMAPPED_KEPT 4
struct tracer_unmapped { // to put back if the real call fails
	unsigned count; // may exceed what is kept: the rest is then lost
	struct {
		uintptr_t start;
		uint64_t bytes;
		struct tracer_moving sample;
	} piece[TRACER_UNMAPPED_KEPT];
};
void tracer_unmapping(void *start, size_t bytes, struct tracer_unmapped *out);
void tracer_unmap_failed(const struct tracer_unmapped *unmapped);

// ---- cold ----------------------------------------------------------------------------------------

#define TRACER_MMAP_ALWAYS (64U << 10) // mappings of at least this are always recorded

struct recording_options;
bool tracer_start(const struct recording_options *options, bool follow_fork, const char **why);
void tracer_stop(enum mlf_state state);
bool tracer_is_recording(void);
void tracer_poll(void); // chores: room, modules, thread names
void tracer_unload_noticed(void);

#endif
