// owners.h -- who has given out a block, and does who frees it fit?
//
// Layer 10. Sampled. Called by who has entered: see tracer_gate.h.
#ifndef MEMLEAK_OWNERS_H
#define MEMLEAK_OWNERS_H

#include "base.h"
#include "memleak_format.h"
#include "samples.h"

struct registers;

#define OWNERS_SIZE_UNKNOWN SIZE_MAX

// A new recording: what it must know of pools and regions. Cold.
void owners_open(void);
void owners_write(void); // what it lacks by now. Cold

// ---- malloc's, only needed when bitmap_test_hot(p) --------------------------------------------------

// free() is about to free p. `function`: what a caller's slot holds that calls it.
void owners_freeing(void *p, uintptr_t function, const struct registers *caller);
// realloc() has moved what began at p.
void owners_moved(const void *p);
// operator delete of the C++ library, the only one in the process, is about to free p. bytes: or OWNERS_SIZE_UNKNOWN.
void owners_deleting(void *p, size_t bytes, const struct registers *caller);
// Its operator new has given out p, and malloc's hook has not taken a sample of it meanwhile.
void owners_new(void *p);
// munmap() and the like are about to take a range.
void owners_unmapping(uintptr_t low, uintptr_t high);

// Do all operators new and delete that are called lead to the C++ library? Only then is it known how they get memory. Cold to set.
extern bool owners_compares_cxx HIDDEN;

// ---- pools ---------------------------------------------------------------------------------------

struct owners_drawn {
	uint32_t weight_x1024; // 0: not sampled; then only needed when bitmap_test_hot(p)
	enum samples_payer payer;
};
void owners_pool_allocated(unsigned pool, void *p, size_t bytes, const struct owners_drawn *drawn, const struct registers *caller);
// Only needed when bitmap_test_hot(p).
void owners_pool_freeing(unsigned pool, void *p, size_t bytes, const struct registers *caller);
void owners_pool_resized(unsigned pool, void *old, void *p, size_t bytes, const struct owners_drawn *drawn, const struct registers *caller);

struct pools_region;
void owners_region_begun(const struct pools_region *region);
void owners_region_ended(const struct pools_region *region, unsigned pool); // what of this pool is in there is gone; of all if 0

#endif
