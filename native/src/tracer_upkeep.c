// tracer_upkeep.c -- what cold code does to the open recording, and asks of it
//
// Context:   cold.
// Invariant: as for samples, nothing of the tables is touched but inside; what takes long and touches none of them is not inside.
// Why:       room, names, figures of memory, copies: all that sampled code may not do itself.
// Proof:     tests/native/test_tracer.c, test_marks.c, test_catalog.c; tests/integration/test_room.py
#include "tracer_upkeep.h"

#include "catalog.h"
#include "copies.h"
#include "focus.h"
#include "governor.h"
#include "ledger.h"
#include "liveset.h"
#include "marks.h"
#include "modules.h"
#include "owners.h"
#include "pyframes.h"
#include "pylabel.h"
#include "recording.h"
#include "rows.h"
#include "samples.h"
#include "stats.h"
#include "tracer_gate.h"

void tracer_note_python(void)
{
	enum mlf_python state = pyframes_state();
	if (!tracer_is_recording())
		return;
	store_relaxed(&recording.header->python_version, pyframes_version());
	store_relaxed(&recording.header->python_state, state);
	store_relaxed(&recording.header->label_state, pylabel_state());
}

static void name_modules(const void *unused)
{
	(void)unused;
	catalog_name_modules();
	owners_write();
}

// What is written down at once may be the last that can be.
static void look_at_memory(const void *unused)
{
	(void)unused;
	bool marked = marks_are_due() && marks_look();
	if (marked)
		copies_hurry();
	if (marked || ledger_is_due())
		ledger_look();
}

static void look_at_cost(const void *unused)
{
	(void)unused;
	governor_poll(recording.header);
	if (focus_is_new(recording.header))
		focus_look(recording.header, &tracer_gate.interval);
}

void tracer_poll(void)
{
	if (!tracer_is_recording())
		return;
	tracer_do(look_at_cost, NULL);
	tracer_note_python();
	catalog_name_threads();
	tracer_make_room();
	tracer_do(name_modules, NULL);
	tracer_do(look_at_memory, NULL);
	copies_write_when_due();
}

void tracer_make_room(void)
{
	while (tracer_is_recording() && recording_grow())
		;
}

void tracer_make_room_in_allocator(void)
{
	while (tracer_is_recording() && recording_grow_as_allowed())
		;
}

// The number of samples closed.
static unsigned close_displaced(const enum mlf_layer *layers, unsigned count_layers)
{
	uint32_t *inside = tracer_enter();
	if (!inside)
		return 0;
	unsigned closed = samples_close_displaced(layers, count_layers);
	tracer_leave(inside);
	return closed;
}

void tracer_unload_noticed(void)
{
	modules_note_unload();
	if (tracer_is_armed())
		count(unloads);
}

void tracer_note_coverage(unsigned module, const struct catalog_coverage *coverage)
{
	uint32_t *inside = tracer_enter();
	if (!inside)
		return;
	catalog_coverage(module, coverage);
	tracer_leave(inside);
}

void tracer_hooks_were_displaced(void)
{
	static const enum mlf_layer layers[] = {MLF_LAYER_MALLOC, MLF_LAYER_OPERATOR_NEW};
	close_displaced(layers, ARRAY_LEN(layers));
}

void tracer_python_was_displaced(bool unseen)
{
	static const enum mlf_layer layers[] = {MLF_LAYER_PYMEM};
	if (close_displaced(layers, ARRAY_LEN(layers)) == 0 && unseen && tracer_is_armed())
		count(displaced);
}

// ---- questions -----------------------------------------------------------------------------------

uint32_t tracer_row_at(const void *address)
{
	static const enum mlf_layer layers[] = {MLF_LAYER_PYMEM, MLF_LAYER_MALLOC, MLF_LAYER_OPERATOR_NEW, MLF_LAYER_MMAP};
	uint32_t *inside = tracer_enter();
	struct live_sample sample = {.row = 0};
	for (unsigned i = 0; inside && i < ARRAY_LEN(layers) && !liveset_find(address, layers[i], &sample); i++)
		;
	if (inside)
		tracer_leave(inside);
	return sample.row;
}

struct rows_held tracer_held(void)
{
	uint32_t *inside = tracer_enter();
	if (!inside)
		return (struct rows_held){0, 0};
	struct rows_held now = rows_held_now();
	tracer_leave(inside);
	return now;
}

static void reset_peak(const void *unused)
{
	(void)unused;
	rows_reset_peak();
}

void tracer_reset_peak(void) { tracer_do(reset_peak, NULL); }
