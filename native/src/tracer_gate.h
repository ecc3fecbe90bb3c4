// tracer_gate.h -- is anything being recorded, and who is inside sampled code
//
// What hooks look at first. The word behind `armed` lies in a page that the kernel zeroes in a forked child: a child, by
// fork or a raw clone, is detached before its first instruction. A recording is replaced only when everybody who entered
// has left.
//
// Layer 10. tracer_look_hot() is hot, tracer_enter() and tracer_leave() are sampled, the rest is cold.
#ifndef MEMLEAK_TRACER_GATE_H
#define MEMLEAK_TRACER_GATE_H

#include "base.h"
#include "counter.h"
#include "governor.h"
#include "memleak_format.h"
#include "sampler.h"

// What the look at a multiple of 64 calls checks. Written by cold code.
struct tracer_gate {
	uint32_t *armed;          // reads 0 in a forked child, until it has a recording of its own
	const uint64_t *interval; // the knob word that readers may change
	bool native_off;          // what does not come by Python's allocators is not recorded, though it is counted down
};
extern struct tracer_gate tracer_gate HIDDEN;
extern const uint64_t tracer_off HIDDEN; // a knob word: nothing is sampled

// Of Python's small-object allocators: counter_pass_hot(&tracer_python) comes before tracer_take_python().
extern struct counter tracer_python HIDDEN;

// After sampler_pass_hot() said no: true if nothing is to be done after all.
static inline bool tracer_look_hot(size_t size_bytes)
{
	return load_relaxed(load_relaxed(&tracer_gate.armed)) &&
	       sampler_look_hot(size_bytes, load_relaxed(load_relaxed(&tracer_gate.interval)) ^ load_relaxed(&governor.flip[GOVERNOR_NATIVE]));
}

// ---- who is inside -------------------------------------------------------------------------------

// One page. How many threads are in sampled code is counted in 32 places, a cache line each: two locked
// instructions a sample, 4 % of its cost. (Plain stores and membarrier() would want a list of threads.)
#define TRACER_SHARDS 32U
struct tracer_wiped {
	uint32_t word; // not 0: armed
	uint32_t calls, detached; // of a forked child without a recording of its own, see tracer_child.c
	struct {
		uint32_t inside;
		uint32_t reserved[15];
	} shard[TRACER_SHARDS] __attribute__((aligned(64)));
};
extern struct tracer_wiped *tracer_wiped HIDDEN;

enum tracer_phase { TRACER_PHASE_IDLE, TRACER_PHASE_ACTIVE, TRACER_PHASE_STOPPED };
extern enum tracer_phase tracer_phase HIDDEN; // written by cold code. ACTIVE in a forked child, too

// A hint unless asked between tracer_enter() and tracer_leave(). Sequentially consistent: see tracer_enter().
static inline bool tracer_is_armed(void)
{
	return load_seq_cst(load_relaxed(&tracer_gate.armed)) != 0 && load_seq_cst(&tracer_phase) == TRACER_PHASE_ACTIVE;
}

// Between these two the recording's tables may be touched. NULL: nothing is being recorded; else what tracer_leave() wants.
// The count goes up before the phase is looked at, and tracer_stop() sets the phase before it looks at the counts: one of
// the two sees the other.
static inline uint32_t *tracer_enter(void)
{
	if (unlikely(!tracer_is_armed()))
		return NULL; // before the first start there is no page to be counted in that a child finds zeroed
	uint32_t shard = (uint32_t)((uintptr_t)&sampler_self * MLF_CHECK_1 >> 59);
	uint32_t *inside = &load_relaxed(&tracer_wiped)->shard[shard].inside;
	add_seq_cst(inside, 1);
	if (likely(tracer_is_armed()))
		return inside;
	sub_release(inside, 1);
	return NULL;
}

static inline void tracer_leave(uint32_t *inside) { sub_release(inside, 1); } // pairs with tracer_all_left()

// ---- cold ----------------------------------------------------------------------------------------

enum tracer_state { // as memleak_state() gives it
	TRACER_IDLE = 0,
	TRACER_RECORDING = 1,
	TRACER_STOPPED = 2,
	TRACER_FORKED = 3, // a child whose own recording is not open yet
};
enum tracer_state tracer_state(void);
static inline bool tracer_is_recording(void) { return tracer_state() == TRACER_RECORDING; }

// Has cold work done that looks at the recording's tables; false: nothing is being recorded.
bool tracer_do(void (*work)(const void *about), const void *about);

// Have all left who entered before the phase was changed? Waits for them, so many times 0.1 ms.
bool tracer_all_left(unsigned waits);

// For tracer_start(): the page is made once in a process. False: the kernel has none of this kind.
bool tracer_has_page(void);
bool tracer_make_page(void);

#endif
