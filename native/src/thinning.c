// thinning.c -- room in a live set that is full
//
// Context:   sampled; between tracer_enter() and tracer_leave().
// Invariant: what the two that are merged stood for is what the one that is left stands for: not less, not more, in bytes; and on
//            average so it is for each of them, in bytes and in blocks.
// Why:       a leak fills any table. If what comes then were dropped, it would look like a cache that is full; were what is oldest
//            dropped, like churn. Of two samples a and b that stand for A and B bytes, a stays with probability A/(A+B) and
//            stands for both: each one's expectation is what it was (pair aggregation: Cohen, Duffield, Kaplan, Lund, Thorup 2009,
//            "Efficient stream sampling for variance-optimal estimation of subset sums"). The two lightest are taken, which
//            adds the least variance. The weights say it all: readers need to know nothing of it. docs/adr/0029-thinning.md
// Proof:     tests/native/test_thinning.c; tests/integration/test_full_room.py
#include "thinning.h"

#include "recording.h"
#include "rows.h"
#include "sampler.h"
#include "stats.h"

#define TRIES 3 // another thread may take what was made free

static uint64_t draw_below(uint64_t limit) { return (uint64_t)((unsigned __int128)sampler_random() * limit >> 64); }

// Rounded by chance: a fixed rounding of many merges would add up.
static uint64_t quotient(uint64_t value, uint64_t by) { return value / by + (draw_below(by) < value % by); }

static uint64_t least_size(const struct live_sample *sample) { return sample->size_bytes ? sample->size_bytes : 1; }

// Which of the two stays, and with what weight.
static unsigned draw(const struct live_sample sample[2], uint64_t *weight)
{
	uint64_t first = liveset_value(&sample[0]), both = first + liveset_value(&sample[1]);
	for (unsigned i = 0; i < 2; i++)
		if (unlikely(both / least_size(&sample[i]) >= LIVESET_WEIGHT_MAX)) {
			// It would weigh more than a sample can: it stays so much more often that it does not. Each one's expectation is
			// what it was all the same; what both stand for is so on average only.
			uint64_t share = sample[i].weight_x1024, rest = LIVESET_WEIGHT_MAX - share;
			bool stays = draw_below(LIVESET_WEIGHT_MAX) < share;
			*weight = stays ? LIVESET_WEIGHT_MAX : quotient((uint64_t)sample[!i].weight_x1024 * LIVESET_WEIGHT_MAX, rest);
			return stays ? i : !i;
		}
	unsigned stays = draw_below(both) >= first;
	*weight = quotient(both, least_size(&sample[stays]));
	return stays;
}

// False: nothing can be merged.
static bool merge(const void *address, uint32_t now_cs)
{
	struct liveset_place place[2];
	struct live_sample sample[2], gone;
	if (!liveset_lightest(address, place, sample))
		return false;
	uint64_t weight;
	unsigned stays = draw(sample, &weight);
	const struct live_sample *kept = &sample[stays];
	enum liveset_moved became;
	uint32_t weighs = kept->weight_x1024;
	if (liveset_merge(&place[stays], &place[!stays], (uint32_t)weight, &gone, &became)) {
		rows_hand_over(recording_at(gone.row), gone.size_bytes, gone.weight_x1024, now_cs);
		rows_take_over(recording_at(kept->row), kept->size_bytes, weighs, (uint32_t)weight, now_cs);
		weighs = (uint32_t)weight;
		count(thinned);
	}
	if (unlikely(became == LIVESET_REMOVED)) { // its block was freed meanwhile
		rows_remove(recording_at(kept->row), kept->size_bytes, weighs, now_cs);
		count(forgotten);
	}
	return true;
}

unsigned thinning_insert(const void *address, enum mlf_layer layer, const struct live_sample *sample, struct liveset_place *place,
			 uint32_t now_cs)
{
	for (unsigned tries = 0;; tries++) {
		enum liveset_inserted done = liveset_try_insert(address, layer, sample, place);
		if (likely(done != LIVESET_FULL))
			return done == LIVESET_INSERTED ? 1 + tries : 0;
		if (tries == TRIES || !merge(address, now_cs)) {
			count(live_full);
			return 0;
		}
	}
}
