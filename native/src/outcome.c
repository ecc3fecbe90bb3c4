// outcome.c -- which samples an entry of a label with `outcome` took, and what becomes of them when it fails
//
// Context:   outcome_note() is sampled; the rest is cold.
// Invariant: a note is believed only if the place it names has the very sample it names, by its address and by the number of the
//            slot's insertion: notes that are stale, torn or of another recording move nothing.
// Why:       whose a sample is, of several that run under the same labels, is known when it is taken and at no other time. One
//            ring for all: an entry that fails looks only at what was noted since it began. docs/adr/0023-outcome.md
// Proof:     tests/native/test_outcome.c; tests/integration/test_outcome.py; tests/models/liveset.pml
#include "outcome.h"

#include "clock.h"
#include "labels.h"
#include "recording.h"
#include "rows.h"
#include "stats.h"
#include "sys.h"

#define NOTES 32768U // 768 KiB, of pages that are touched one by one; at 1,000 samples a second half a minute

struct note {
	uint64_t key;
	uint64_t whose; // entry << 32 | slot: two threads that write one note never make a third out of it
	uint64_t insertion;
};
#define TRIES 4 // others merge samples with it

static struct note *notes; // NULL: nobody has entered such a label
static uint32_t noted __attribute__((aligned(64)));

void outcome_note(const struct liveset_place *place, uint32_t entry)
{
	struct note *all = load_acquire(&notes); // pairs with outcome_open()
	if (!all)
		return;
	struct note *note = &all[add_relaxed(&noted, 1) % NOTES]; // relaxed: only the place's distinctness matters
	store_relaxed(&note->key, place->key);
	store_relaxed(&note->insertion, place->insertion);
	store_release(&note->whose, (uint64_t)entry << 32 | place->slot); // pairs with outcome_settle()
}

const uint32_t *outcome_open(void)
{
	struct note *none = NULL, *made;
	if (load_relaxed(&notes))
		return &noted;
	made = sys_private_pages(NOTES * sizeof(*notes));
	if (made && !cas_acq_rel(&notes, &none, made)) // pairs with outcome_note()
		sys_munmap(made, NOTES * sizeof(*notes));
	return &noted;
}

// Private anonymous memory: dropped pages read as zero again. The count goes on: entries that are open have read it.
void outcome_drop(void)
{
	if (load_relaxed(&notes))
		sys_madvise(notes, NOTES * sizeof(*notes), MADV_DONTNEED);
}

struct outcome {
	const char *line;
	uint32_t now_cs, from, to; // numbers of the last set met, and of what it becomes
};

static uint32_t set_after(struct outcome *outcome, uint32_t number)
{
	if (number != outcome->from || !outcome->from) {
		outcome->from = number;
		outcome->to = labels_replaced(number, "outcome=ok", outcome->line);
	}
	return outcome->to;
}

// False: it was changed meanwhile.
static bool settle(struct liveset_place *place, struct outcome *outcome)
{
	struct live_sample sample;
	if (!liveset_look(place, &sample))
		return true;
	struct mlf_row *row = recording_at(sample.row);
	if (row->label_set == 0 || row->label_set == MLF_LABEL_OTHER)
		return true; // says nothing of an outcome
	uint32_t number = set_after(outcome, row->label_set);
	struct mlf_row *twin = number ? rows_twin(row, number, outcome->now_cs) : NULL;
	if (!twin) {
		count(outcome_missed);
		return true;
	}
	if (number == MLF_LABEL_OTHER)
		count(label_other);
	enum liveset_moved moved = liveset_move(place, recording_ref(twin));
	if (moved == LIVESET_MOVED) {
		rows_move(row, twin, sample.size_bytes, sample.weight_x1024, outcome->now_cs);
	} else if (moved == LIVESET_REMOVED) {
		rows_remove(row, sample.size_bytes, sample.weight_x1024, outcome->now_cs);
		count(forgotten);
	}
	return moved != LIVESET_GONE;
}

void outcome_settle(uint32_t entry, uint32_t began, const char *line)
{
	struct outcome outcome = {.line = line, .now_cs = clock_now_cs()};
	const struct note *all = load_acquire(&notes);
	uint32_t end = load_relaxed(&noted);
	if (!all || !entry)
		return;
	for (uint32_t at = end - began > NOTES ? end - NOTES : began; at != end; at++) {
		uint64_t whose = load_acquire(&all[at % NOTES].whose); // pairs with outcome_note()
		struct liveset_place place = {load_relaxed(&all[at % NOTES].key), (uint32_t)whose, (uint32_t)load_relaxed(&all[at % NOTES].insertion)};
		for (unsigned tries = 0; whose >> 32 == entry && tries < TRIES && !settle(&place, &outcome); tries++)
			;
	}
	if (load_relaxed(&noted) - began > NOTES) // some of its own may have been overwritten, by now
		count(outcome_missed);
}
