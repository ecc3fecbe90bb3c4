// governor.h -- what sampling may cost, and the knobs that keep to it
//
// Samples add up what they cost. Where that is more than the budget, a share of the CPU time that the process uses, the
// intervals in force are made wider than the requested ones by a factor, and narrower again when there is room.
// docs/adr/0014-governor.md has the reasons.
//
// Layer 6. governor_matches_hot() is hot; governor_spend(), governor_look(), governor_adopt() and what they call are
// sampled; the rest is cold.
#ifndef MEMLEAK_GOVERNOR_H
#define MEMLEAK_GOVERNOR_H

#include "atomics.h"
#include "memleak_format.h"
#include "sampler.h"

#define GOVERNOR_ONE 1024U           // the factor that changes nothing
#define GOVERNOR_MAX_INTERVAL 9999U  // 10000 would be off
#define GOVERNOR_WINDOW_NS 250000000U // worth this of the budget, spent, ends a window
#define GOVERNOR_WINDOW_CS 100U      // and so does this time
#define GOVERNOR_WINDOW_SAMPLES 64U  // but fewer samples than these are chance
#define GOVERNOR_GRAIN_NS 4000000U   // of the coarse clock, mostly

enum governor_stream { GOVERNOR_NATIVE, GOVERNOR_PYTHON, GOVERNOR_STREAMS };

struct governor {
	uint64_t flip[GOVERNOR_STREAMS]; // hot: a request XOR this is the law in force, unless somebody should look
	uint64_t adopted[GOVERNOR_STREAMS], adopted_bytes; // the requests that `effective` was made from; never read from outside
	uint64_t next_cost_ns;
	uint32_t next_cs;
};
extern struct governor governor HIDDEN;

// Is a thread with law `effective` to go on with it while `requested` is what stands in the header?
static inline bool governor_matches_hot(enum governor_stream stream, uint64_t requested, uint64_t effective)
{
	return (requested ^ load_relaxed(&governor.flip[stream])) == effective;
}

// After that said no, or the bytes differ: adopts a request that has come (a bad one is put back and counted), and makes
// the change that is due. `who` is the countdown that is looking, `whole`: it does so at a multiple of 64 calls.
void governor_look(struct mlf_header *header, enum governor_stream stream, const void *who, bool whole);

// One sample has cost this much more. `who` and `stream` drew it.
void governor_check(struct mlf_header *header, enum governor_stream stream, const void *who);
static inline void governor_spend(struct mlf_header *header, uint32_t cost_ns, uint32_t now_cs, enum governor_stream stream,
				  const void *who)
{
	// Relaxed: a sum, and two words that say no more than "about now".
	uint64_t cost = add_relaxed(&header->own_cost_ns, cost_ns) + cost_ns;
	if (unlikely(cost >= load_relaxed(&governor.next_cost_ns) || now_cs >= load_relaxed(&governor.next_cs)))
		governor_check(header, stream, who);
}

// ---- cold ----------------------------------------------------------------------------------------

void governor_begin(struct mlf_header *header); // with a header that has its knobs, before anybody samples
void governor_end(void);                        // nothing is flipped: the law in force is the off law
void governor_poll(struct mlf_header *header);  // the CPU time used; a change that nobody else makes

// ---- parts, for tests --------------------------------------------------------------------------------

// The pair that is in force with this factor: never denser than `interval`, never wider than 9999; full and off are as
// they are. Keeps the epoch.
uint64_t governor_widen(uint64_t interval, uint32_t factor_x1024);

// The mean of byte samples that goes with a pair that was made from another: by how much it really is wider.
uint64_t governor_widen_bytes(uint64_t sample_bytes, uint64_t interval, uint64_t widened);

// The greatest factor that still makes a pair wider.
uint32_t governor_factor_max(uint64_t interval);

struct governor_window {
	uint64_t spent_ns, elapsed_ns;
	uint32_t budget_ppm, cpu_x1024; // of the CPU time that the process uses: 1024 is one CPU
};

uint64_t governor_allowed_ns(const struct governor_window *w);

// The factor after a window. *over: it would have to be greater than `greatest`.
uint32_t governor_factor(uint32_t factor_x1024, uint32_t greatest, const struct governor_window *w, bool *over);

#endif
