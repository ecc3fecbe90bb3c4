// sampler.h -- when: three independent rules, one decision per allocation
//
// An allocation is sampled when any rule fires (docs/explanation/sampling.md):
//   count  gaps between count samples are uniform on [min, max] allocations of the thread. The first
//          gap of a thread, and the first after a change of knobs, comes from the equilibrium law
//          P(k) = P(G >= k)/E[G], so that *every* allocation has probability exactly 2/(min+max),
//          the first of a short thread too, whatever the program's rhythm;
//   bytes  an exponential countdown of mean `sample_bytes`;
//   size   SAMPLER_SIZE_ALWAYS bytes or more.
// No rule resets another's countdown. The sample carries the weight 1/π,
// π = 1 - (1 - 2/(min+max)) * exp(-size/sample_bytes), of the law that drew it, so estimates stay
// unbiased under mixed sizes and changing knobs.
//
// A focus (aim.h) asks of every call whether it belongs to a part that is recorded wholly. The countdowns run on as without
// it, one call a load, so what is drawn of all others stays what it was.
//
// A change of knobs must not be noticed *at* a sample: then which law applies would depend on what
// was drawn, and that biases. So the hot counter is loaded with min(gap left, calls to the next
// multiple of 64) and the knob word is looked at only at multiples of 64.
//
// Layer 4. sampler_pass_hot() is hot; everything else is sampled.
#ifndef MEMLEAK_SAMPLER_H
#define MEMLEAK_SAMPLER_H

#include "atomics.h"
#include "memleak_format.h"

#define SAMPLER_SIZE_ALWAYS (16U << 20)
#define SAMPLER_EPOCH_CALLS 64U
#define SAMPLER_FULL 0x00010001U                                         // min = max = 1
#define SAMPLER_OFF (MLF_INTERVAL_OFF << 16 | MLF_INTERVAL_OFF)           // min = max = 10000
#define SAMPLER_DEFAULT (256U << 16 | 16U)
#define SAMPLER_PYTHON (4096U << 16 | 256U) // of Python's small-object domains
#define SAMPLER_DEFAULT_BYTES (4U << 20)
#define SAMPLER_WEIGHT_ONE 1024U

// All of a thread's state, one cache line of initial-exec TLS; all-zero = not seen yet.
// Only its own thread touches it; a signal handler on that thread may, at any instruction, and
// then a countdown may lose or repeat a few calls, nothing else.
struct sampler {
	int32_t calls_left;    // hot: calls until the next look; <= 0 goes to the slow path
	uint16_t gap_left;     // calls to the next count sample, as of the last load; SAMPLER_NO_GAP in off mode
	uint8_t calls_loaded;  // what calls_left was loaded with, <= 64
	uint8_t calls_mod_64;  // position of the last load
	uint64_t bytes_left;   // hot: below SAMPLER_SIZE_ALWAYS, so every larger request borrows
	uint64_t bytes_rest;   // what the exponential countdown holds beyond bytes_left
	uint64_t law;          // interval word in force on this thread; 0 = thread not seen yet
	uint64_t sample_bytes; // in force on this thread
	uint64_t random;       // state, never 0 once seen
	uint16_t thread : 10;  // thread id in the recording numbered `recording`; 0 = none yet. At most 960, see catalog.c
	uint16_t focus : 6;    // number of the focus that this thread has adopted, 0 = none
	uint16_t label;        // set of labels that C code has put in force, see labels.h; 0 = none
	uint32_t recording;
	uint8_t busy;          // inside our own sampled code: 1, or one of the two below
	uint8_t hint;          // enum mlf_domain that passed the request on to malloc; 0 = none
	uint16_t reallocated;  // sampler_block_mark() of the block that malloc's realloc was last called with
	uint32_t looks;        // times sampler_take() ran: with calls_left it tells whether any call came by
};
#define SAMPLER_NO_GAP UINT16_MAX
#define SAMPLER_ASK (1U << 31) // in a weight: a focus is in force for this call, see focus.h. Weights are below 2^24

// Numbers of the focus in force, 1 to SAMPLER_FOCUSES, for who is to be asked at each call; 0 = not. Adopted like knobs, at
// multiples of 64 calls. Written by focus.c.
struct sampler_focus {
	uint32_t native, python;
};
extern struct sampler_focus sampler_focus HIDDEN;
#define SAMPLER_FOCUSES 63U
#define SAMPLER_HINT_REALLOC 0x80U // in a hint: of realloc only, what else malloc is asked for meanwhile is not the block
#define SAMPLER_PROBE 3U           // busy: tracer_probe_begin()
#define SAMPLER_NOT_THE_PROGRAM 2U // busy: what is allocated here is no answer's business

_Static_assert(sizeof(struct sampler) == 64, "the whole TLS budget is 64 bytes");

extern _Thread_local struct sampler sampler_self HIDDEN __attribute__((tls_model("initial-exec")));

// True: not sampled, go straight to the allocator. False: call sampler_take(size) next.
static inline bool sampler_pass_hot(size_t size)
{
#if defined(__x86_64__)
	// Compilers load, subtract, store and test: 9 instructions for these 4.
	bool out;
	__asm__("subl $1, %0" : "+m"(sampler_self.calls_left), "=@ccle"(out));
	if (unlikely(out))
		return false;
	__asm__("subq %2, %0" : "+m"(sampler_self.bytes_left), "=@ccb"(out) : "r"(size));
	return likely(!out);
#else
	struct sampler *self = &sampler_self;
	if (unlikely(--self->calls_left <= 0))
		return false;
	return likely(!__builtin_sub_overflow(self->bytes_left, (uint64_t)size, &self->bytes_left));
#endif
}

// After sampler_pass_hot() said no, try this first: true if the look at a multiple of 64 was all it
// was, nothing fired and the knob word is still `interval`. Touches nothing otherwise.
static inline bool sampler_look_hot(size_t size, uint64_t interval)
{
	struct sampler *self = &sampler_self;
	uint32_t loaded = self->calls_loaded, gap = self->gap_left;
	if (self->calls_left != 0 || gap <= loaded || size > self->bytes_left || self->law != interval)
		return false;
	self->bytes_left -= size;
	if (gap != SAMPLER_NO_GAP)
		self->gap_left = (uint16_t)(gap -= loaded);
	// Not a hit, so the load had reached a multiple of 64: the next look is 64 calls on at most.
	loaded = gap < SAMPLER_EPOCH_CALLS ? gap : SAMPLER_EPOCH_CALLS;
	self->calls_mod_64 = 0;
	self->calls_loaded = (uint8_t)loaded;
	self->calls_left = (int32_t)loaded;
	self->looks++;
	return true;
}

// Called once per sampler_pass_hot(size) == false. Returns the sample's weight in 1/1024, or 0; with SAMPLER_ASK in it, or
// alone, when a focus is to be asked.
// The knob words are read only at multiples of 64 calls of the thread and at its first call.
uint32_t sampler_take(size_t size, const uint64_t *interval, const uint64_t *sample_bytes);

// Called instead of sampler_take() for a call that is not ours to sample: gives back what it borrowed.
void sampler_skip(size_t size);

// Forget the thread's draws: the next call begins as a thread's first does. For a forked child.
void sampler_restart(void);

// Global seed; threads mix it with their own address and a counter. Cold.
void sampler_seed(uint64_t seed);

// Weight of an allocation of `size` bytes under a law, in 1/1024. 0 in off mode.
uint32_t sampler_weight(uint64_t law, uint64_t sample_bytes, size_t size);

// Parts, for tests: fixed point, because floating point in malloc would change the program's
// exception flags and could trap.
uint32_t sampler_equilibrium_gap(uint32_t min, uint32_t max, uint64_t random);
uint64_t sampler_exponential(uint64_t mean, uint64_t random);
uint32_t sampler_exp_neg_q32(uint64_t x_q32); // exp(-x) * 2^32, saturated
uint64_t sampler_random(void);

// Did a block go by malloc's realloc? Hooks between Python's allocator and malloc put up to 64 bytes in front of it.
static inline uint16_t sampler_block_mark(const void *block) { return (uint16_t)((uintptr_t)block >> 4); }
static inline bool sampler_was_reallocated(const void *block)
{
	return (uint16_t)(sampler_block_mark(block) - sampler_self.reallocated) <= 4;
}

// Changes with every call counted on this thread.
static inline uint64_t sampler_tick(void)
{
	return (uint64_t)sampler_self.looks << 32 | (uint32_t)sampler_self.calls_left;
}

// True if `interval` is a legal pair (1 <= min <= max <= 10000).
static inline bool sampler_interval_valid(uint64_t interval)
{
	uint32_t min = (uint16_t)interval, max = (uint16_t)(interval >> 16);
	return min >= 1 && min <= max && max <= MLF_INTERVAL_MAX;
}

#endif
