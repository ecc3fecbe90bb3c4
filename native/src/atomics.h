// atomics.h -- the memory orders this project uses, by name
//
// Layer 2. Nothing else may spell memory_order_* or __ATOMIC_*. Each release or acquire in the
// code names its partner; each relaxed says why that is enough.
#ifndef MEMLEAK_ATOMICS_H
#define MEMLEAK_ATOMICS_H

#include "base.h"

#define load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define load_seq_cst(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define store_seq_cst(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define add_seq_cst(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define sub_release(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELEASE)
#define add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define or_seq_cst(p, v) __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define and_seq_cst(p, v) __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define exchange_acq_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)

// Compare and swap; *expected receives the value found on failure.
#define cas_relaxed(p, expected, v)                                                                \
	__atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#define cas_acq_rel(p, expected, v)                                                                \
	__atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
#define cas_seq_cst(p, expected, v)                                                                \
	__atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

#define fence_seq_cst() __atomic_thread_fence(__ATOMIC_SEQ_CST)
// Orders this thread against a signal handler on it; costs nothing.
#define fence_signal() __atomic_signal_fence(__ATOMIC_SEQ_CST)

// Raise *p to v if v is larger. Relaxed: a maximum carries no other data. Bounded: a lost race
// means somebody stored a newer value, and after a few of those ours no longer matters.
static inline void max_relaxed(uint64_t *p, uint64_t v)
{
	uint64_t seen = load_relaxed(p);
	for (int tries = 0; seen < v && tries < 8; tries++)
		if (cas_relaxed(p, &seen, v))
			return;
}

#endif
