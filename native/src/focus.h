// focus.h -- the part of the allocations that is recorded wholly: asked for, adopted, in force
//
// OceanBase's older Memleak watched one module at 1/1. Ours does so beside what is sampled of the rest, whose weights stay what
// they are. docs/adr/0022-focus.md has the reasons, docs/reference/focus.md the words.
//
// Layer 10. focus_is_new(), focus_look(), focus_judge() and focus_takes() are sampled, the rest is cold.
#ifndef MEMLEAK_FOCUS_H
#define MEMLEAK_FOCUS_H

#include "atomics.h"
#include "memleak_format.h"
#include "sampler.h"
#include "samples.h"

extern uint64_t focus_seen HIDDEN; // the request that was looked at last

static inline bool focus_is_new(const struct mlf_header *header)
{
	return load_relaxed(&header->focus_requested) != load_relaxed(&focus_seen);
}

// After that said yes, by who has entered: adopts the request; a bad one is counted and changes nothing. *look is the word that
// sampler_look_hot() compares laws with: while all are to be asked it is one that matches none.
void focus_look(struct mlf_header *header, const uint64_t **look);

// A weight with SAMPLER_ASK in it: what the call is to be recorded with. One if it belongs to the part, then with
// FOCUS_MATCHED, and with FOCUS_ALONE if only the focus has taken it; else what was drawn, perhaps 0.
#define FOCUS_MATCHED (1U << 30)
#define FOCUS_ALONE (1U << 29)
#define FOCUS_WEIGHT(judged) ((judged) & 0xFFFFFFU)
struct registers;
uint32_t focus_judge(uint32_t weight, enum mlf_domain domain, const struct registers *caller);

// The same of any weight.
static inline uint32_t focus_ask(uint32_t weight, enum mlf_domain domain, const struct registers *caller)
{
	return likely(!(weight & SAMPLER_ASK)) ? weight : focus_judge(weight, domain, caller);
}

// By who has entered: counts what was matched. Returns who pays.
static inline enum samples_payer focus_note(struct mlf_header *header, uint32_t judged)
{
	if (unlikely(judged & FOCUS_MATCHED))
		add_relaxed(&header->focus_matched, 1); // relaxed: a number for readers
	return unlikely(judged & FOCUS_ALONE) ? SAMPLES_OF_FOCUS : SAMPLES_OF_BUDGET;
}

// Does the part in focus hold this call? For who is not counted down: mappings.
bool focus_takes(enum mlf_domain domain, const struct registers *caller);

// 64 calls have been asked.
#define FOCUS_ASK_NS 20U // (measured: 14 to 16 ns; 40 where the stack is walked)
static inline void focus_spend_asking(struct mlf_header *header)
{
	add_relaxed(&header->focus_cost_ns, SAMPLER_EPOCH_CALLS * FOCUS_ASK_NS); // relaxed: a sum
}

// ---- cold ----------------------------------------------------------------------------------------

bool focus_is_valid(const char *text);
const char *focus_text(void); // in force; "" for none

// Writes the request. False: it is not valid.
bool focus_request(struct mlf_header *header, const char *text);

// With a new recording's header, before anybody samples. A text that is not valid is none.
void focus_begin(struct mlf_header *header, const char *text, const uint64_t **look);
void focus_end(void); // nobody is asked any more

#endif
