// counter.c -- the count rule of sampler.h alone, for a stream of calls that a lock serialises
//
// Context:   sampled.
// Invariant: every call of the stream has probability 2/(min+max) under the law in force; see sampler.c.
// Why:       an interpreter with a GIL of its own (CPython 3.12's sub-interpreters) may call at the same time: then
//            a countdown may lose a call, and a second taker passes its call over.
// Proof:     tests/native/test_counter.c
#include "counter.h"

static uint64_t draw(struct counter *c)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return c->random * 0x2545F4914F6CDD1DULL;
}

static bool off(uint64_t law) { return (uint32_t)law == SAMPLER_OFF; }

static void adopt(struct counter *c, uint64_t law)
{
	c->law = law;
	c->gap_left = off(law) ? SAMPLER_NO_GAP : sampler_equilibrium_gap((uint16_t)law, (uint16_t)(law >> 16), draw(c));
}

static void load_calls(struct counter *c)
{
	if (unlikely(c->focus)) {
		c->calls_loaded = 1;
		c->calls_left = 0;
		return;
	}
	uint32_t to_look = SAMPLER_EPOCH_CALLS - c->calls_mod_64;
	c->calls_loaded = c->gap_left < to_look ? c->gap_left : to_look;
	c->calls_left = (int32_t)c->calls_loaded;
}

// Like the law: at the first call, and at multiples of 64.
static void adopt_focus(struct counter *c) { store_relaxed(&c->focus, load_relaxed(&sampler_focus.python)); }

static uint32_t asked(const struct counter *c)
{
	uint32_t focus = load_relaxed(&c->focus); // relaxed: a number, compared
	return unlikely(focus) && focus == load_relaxed(&sampler_focus.python) ? SAMPLER_ASK : 0;
}

uint32_t counter_take(struct counter *c, const uint64_t *interval)
{
	if (exchange_acq_rel(&c->taking, 1))
		return asked(c); // of the part in focus none is passed over
	if (c->law == 0) { // this very call is the first of the gap drawn now
		adopt(c, load_relaxed(interval));
		adopt_focus(c);
		c->calls_mod_64 = 0;
		c->calls_loaded = 1;
	}
	uint64_t law = c->law;
	uint32_t ask = asked(c);
	bool hit = false;
	c->calls_mod_64 = (c->calls_mod_64 + c->calls_loaded) % SAMPLER_EPOCH_CALLS;
	if (c->gap_left != SAMPLER_NO_GAP && (c->gap_left -= c->calls_loaded) == 0) {
		uint32_t min = (uint16_t)law, range = (uint16_t)(law >> 16) - min + 1;
		hit = true;
		c->gap_left = min + (uint32_t)((draw(c) >> 32) * range >> 32);
	}
	// Relaxed: a change is noticed at a multiple of 64 calls, never at a sample: that would bias.
	if (c->calls_mod_64 == 0 && load_relaxed(interval) != law)
		adopt(c, load_relaxed(interval));
	if (c->calls_mod_64 == 0)
		adopt_focus(c);
	load_calls(c);
	store_release(&c->taking, 0);
	return ask | (hit ? sampler_weight(law, 0, 0) : 0);
}

void counter_restart(struct counter *c, uint64_t seed)
{
	c->random = (seed ^ MLF_CHECK_2) * MLF_CHECK_1 | 1;
	c->law = 0;
	store_release(&c->taking, 0); // in a forked child nobody may be left who would; pairs with counter_take()
	store_relaxed(&c->calls_left, 0);
}
