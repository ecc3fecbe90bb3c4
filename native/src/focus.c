// focus.c -- the part of the allocations that is recorded wholly: asked for, adopted, in force
//
// Context:   sampled; focus_begin(), focus_end(), focus_request() and focus_text() are cold.
// Invariant: a text is adopted whole or not at all: its word carries a check of it. What is in force is one of a few places
//            that are written in turn, so that who still asks an older one reads no text that changes under it.
//            Nobody waits: whoever finds another adopting goes on, and looks again at its next look.
// Why:       readers write the header and nothing else, at any moment; who samples may believe none of it.
// Proof:     tests/native/test_focus.c; tests/integration/test_focus.py
#include "focus.h"

#include "aim.h"
#include "stats.h"

#define PLACES 4U

static const uint64_t matches_no_law = 0xC000C000U; // bits that no interval has, whatever it is XORed with: see sampler_look_hot()

uint64_t focus_seen;
static struct aim aims[PLACES];
static uint32_t in_force; // number of the aim, at place number % PLACES; 0: none. Published last
static uint32_t last_number, adopting;

static const struct aim *aim_now(void)
{
	uint32_t number = load_acquire(&in_force); // pairs with put_in_force()
	return number ? &aims[number % PLACES] : NULL;
}

const char *focus_text(void)
{
	const struct aim *aim = aim_now();
	return aim ? aim->text : "";
}

bool focus_is_valid(const char *text)
{
	struct aim unused;
	return aim_parse(text, &unused);
}

// ---- adopting ------------------------------------------------------------------------------------

// Threads compare six bits of it, and 0 is none.
static uint32_t next_number(void)
{
	last_number = (last_number + 1) & 0xFFFFFF;
	if (last_number % (SAMPLER_FOCUSES + 1) == 0)
		last_number++;
	return last_number;
}

static void put_in_force(struct mlf_header *header, const struct aim *wanted, uint64_t word, const uint64_t **look)
{
	uint32_t number = 0;
	if (wanted->kind != AIM_NONE) {
		number = next_number();
		struct aim *place = &aims[number % PLACES];
		*place = *wanted;
		place->name = place->text + (wanted->name - wanted->text);
		place->number = number;
	}
	for (unsigned i = 0; i < MLF_FOCUS_BYTES; i++)
		store_relaxed(&header->focus_effective_text[i], wanted->text[i]); // relaxed: readers compare it with the word
	store_relaxed(&header->focus_matched, 0);
	store_release(&in_force, number); // pairs with aim_now()
	store_relaxed(&sampler_focus.native, aim_needs_native(wanted) ? number % (SAMPLER_FOCUSES + 1) : 0);
	store_relaxed(&sampler_focus.python, aim_needs_python(wanted) ? number % (SAMPLER_FOCUSES + 1) : 0);
	store_relaxed(look, aim_needs_native(wanted) ? &matches_no_law : &header->requested);
	store_release(&header->focus_effective, word); // pairs with readers of the file
}

// A copy that the program's own writer, or one from outside, does not change any more.
static bool copy_text(const struct mlf_header *header, char *text)
{
	for (unsigned i = 0; i < MLF_FOCUS_BYTES; i++)
		text[i] = load_relaxed(&header->focus_requested_text[i]); // relaxed: the word's check tells
	bool ends = text[MLF_FOCUS_BYTES - 1] == 0;
	text[MLF_FOCUS_BYTES - 1] = 0;
	return ends;
}

void focus_look(struct mlf_header *header, const uint64_t **look)
{
	char text[MLF_FOCUS_BYTES];
	struct aim wanted = {.kind = AIM_NONE};
	if (exchange_acq_rel(&adopting, 1)) // pairs with the release below
		return;
	uint64_t word = load_acquire(&header->focus_requested); // pairs with focus_request(); the text was written before
	if (word != load_relaxed(&focus_seen)) {
		bool good = copy_text(header, text) && mlf_focus_check(text, (uint32_t)(word >> 32)) == (uint32_t)word && aim_parse(text, &wanted);
		if (load_relaxed(&header->focus_requested) == word) { // else there is another already
			store_relaxed(&focus_seen, word);
			if (good)
				put_in_force(header, &wanted, word, look);
			else
				count(knobs_rejected);
		}
	}
	store_release(&adopting, 0);
}

// ---- asking --------------------------------------------------------------------------------------

bool focus_takes(enum mlf_domain domain, const struct registers *caller)
{
	const struct aim *aim = aim_now();
	return unlikely(aim) && aim_matches(aim, domain, caller);
}

uint32_t focus_judge(uint32_t weight, enum mlf_domain domain, const struct registers *caller)
{
	uint32_t drawn = FOCUS_WEIGHT(weight);
	if (!focus_takes(domain, caller))
		return drawn;
	return SAMPLER_WEIGHT_ONE | FOCUS_MATCHED | (drawn ? 0 : FOCUS_ALONE);
}

// ---- cold ----------------------------------------------------------------------------------------

bool focus_request(struct mlf_header *header, const char *text)
{
	struct aim wanted;
	if (!aim_parse(text, &wanted))
		return false;
	uint32_t number = ((uint32_t)(load_relaxed(&header->focus_requested) >> 32) + 1) | 1; // odd: see memleak_format.h
	bool ended = false;
	for (unsigned i = 0; i < MLF_FOCUS_BYTES; i++) {
		ended = ended || !wanted.text[i];
		store_relaxed(&header->focus_requested_text[i], ended ? 0 : wanted.text[i]); // relaxed: the word follows
	}
	store_release(&header->focus_requested, (uint64_t)number << 32 | mlf_focus_check(wanted.text, number)); // pairs with focus_look()
	return true;
}

void focus_begin(struct mlf_header *header, const char *text, const uint64_t **look)
{
	store_relaxed(&adopting, 0); // in a forked child nobody may be left who would
	header->focus_bytes = MLF_FOCUS_BYTES;
	store_relaxed(&focus_seen, 0);
	focus_end();
	if (text && *text && focus_request(header, text))
		focus_look(header, look);
}

void focus_end(void)
{
	store_relaxed(&in_force, 0);
	store_relaxed(&sampler_focus.native, 0);
	store_relaxed(&sampler_focus.python, 0);
}
