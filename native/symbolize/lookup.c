// lookup.c -- a batch of addresses: units, lines, functions, names, and the frames made of them
//
// Invariant: a unit is read at most once per batch, and only if it has one of the addresses.
// Proof:     tests/unit/test_symbolize_dwarf.py, tests/unit/test_symbolize_engine.py, tests/fuzz/fuzz_symbolize.c
#include "handle.h"

#include "dwarf.h"
#include "functions.h"
#include "lines.h"
#include "ranges.h"

#include <stdlib.h>

#define NO_UNIT 0xFFFFFFFF
#define TEXT_MOST (1U << 27)
#define DEPTH_MOST 256 // of calls inlined into one another

// ---- strings and frames, as they grow ------------------------------------------------------------

struct batch {
	struct mlsym *handle;
	const uint64_t *address;
	uint32_t count;
	uint32_t *owner;  // of each address: the number of its unit
	uint32_t without; // addresses that have none
	struct mlsym_frame *frame;
	struct mlsym_split *split;
	char *text;
	uint64_t frames, frames_room, splits, splits_room, text_bytes, text_room;
	bool failed; // no memory
};

static bool room_for(struct batch *batch, void **array, uint64_t *room, uint64_t wanted, size_t each)
{
	if (wanted <= *room)
		return true;
	uint64_t larger = *room ? *room * 2 : 1024;
	while (larger < wanted)
		larger *= 2;
	void *grown = realloc(*array, larger * each);
	if (!grown) {
		batch->failed = true;
		return false;
	}
	*array = grown;
	*room = larger;
	return true;
}

// Its offset; 0 for none.
static uint32_t keep_text(struct batch *batch, const char *text)
{
	if (!text)
		return 0;
	size_t bytes = strlen(text) + 1;
	if (batch->text_bytes + bytes > TEXT_MOST ||
	    !room_for(batch, (void **)&batch->text, &batch->text_room, batch->text_bytes + bytes, 1))
		return 0;
	memcpy(batch->text + batch->text_bytes, text, bytes);
	batch->text_bytes += bytes;
	return (uint32_t)(batch->text_bytes - bytes);
}

static struct mlsym_frame *new_frame(struct batch *batch)
{
	if (!room_for(batch, (void **)&batch->frame, &batch->frames_room, batch->frames + 1, sizeof(*batch->frame)))
		return NULL;
	return &batch->frame[batch->frames++];
}

// ---- which unit ----------------------------------------------------------------------------------

// What the linker took out lies at the address 0 if it was GNU's, and may seem to reach far into the code: ranges from there on get
// what nobody else has.
struct claim {
	struct batch *batch;
	uint32_t unit;
	bool from_zero, left_out;
};

static bool claim_range(void *context, uint64_t low, uint64_t high)
{
	struct claim *claim = context;
	struct batch *batch = claim->batch;
	struct debug_file *file = &batch->handle->main;
	if (!low && !claim->from_zero) {
		claim->left_out |= batch->address[0] < high;
		return true;
	}
	uint32_t first = first_not_below(batch->address, batch->count, low), i = first;
	for (; i < batch->count && batch->address[i] < high; i++) {
		if (batch->owner[i] != NO_UNIT)
			continue;
		if (!unit_read_root(file, &file->unit[claim->unit]))
			return false; // what cannot be read has nothing
		batch->owner[i] = claim->unit;
		batch->without--;
	}
	return work_spend(file->work_left, i - first) && batch->without;
}

static void read_aranges_set(struct claim *claim, struct bytes *b)
{
	struct debug_file *file = &claim->batch->handle->main;
	const uint8_t *start = b->at;
	bool dwarf64;
	if (!bytes_initial_length(b, &dwarf64))
		return;
	bytes_skip(b, 2); // version
	uint64_t offset = bytes_fixed(b, dwarf64 ? 8 : 4);
	unsigned width = bytes_u8(b), segment = bytes_u8(b);
	if (b->bad || (width != 4 && width != 8) || segment)
		return;
	uint64_t passed = (uint64_t)(b->at - start), pair = 2 * width;
	bytes_skip(b, (pair - passed % pair) % pair);
	struct unit *unit = units_with_header(file, offset);
	if (!unit)
		return;
	claim->unit = (uint32_t)(unit - file->unit);
	for (;;) {
		uint64_t low = bytes_fixed(b, width), length = bytes_fixed(b, width);
		if (b->bad || (!low && !length) || !work_spend(file->work_left, 1))
			return;
		if (low + length > low)
			claim_range(claim, low, low + length);
	}
}

static bool may_have_code(const struct unit *unit) { return unit->type == DW_UT_compile || unit->type == DW_UT_skeleton; }

// By .debug_aranges; for what they do not say (clang writes none), by the units' first entries.
static void claim_all(struct claim *claim)
{
	struct batch *batch = claim->batch;
	struct debug_file *file = &batch->handle->main;
	struct bytes all = section_all(&file->section[SECTION_ARANGES]);
	while (bytes_left(&all)) {
		struct bytes set = all;
		read_aranges_set(claim, &set);
		struct bytes head = all;
		bool dwarf64;
		if (!bytes_initial_length(&head, &dwarf64))
			break;
		all.at = head.end;
	}
	for (uint32_t i = 0; i < file->units && batch->without; i++) {
		struct unit *unit = &file->unit[i];
		if (unit->usable && may_have_code(unit) && unit_read_root(file, unit)) {
			claim->unit = i;
			ranges_of_unit(file, unit, claim_range, claim);
		}
	}
}

static void find_units(struct batch *batch)
{
	struct claim claim = {.batch = batch};
	claim_all(&claim);
	claim.from_zero = true;
	if (claim.left_out && batch->without)
		claim_all(&claim);
}

// ---- frames of one unit --------------------------------------------------------------------------

struct unit_batch {
	struct batch *batch;
	struct unit *unit;
	uint32_t *index; // of its addresses in the batch
	uint64_t *address;
	struct place *place;
	uint32_t count;
	struct line_table lines;
	uint32_t *path; // of each file of the table, once it was asked for: its text; UINT32_MAX: not yet
	struct function_search found;
};

static uint32_t path_of(struct unit_batch *u, uint64_t number)
{
	if (number >= u->lines.entries || !u->path)
		return 0;
	if (u->path[number] == UINT32_MAX) {
		char *path = line_table_path(&u->lines, number);
		u->path[number] = keep_text(u->batch, path);
		free(path);
	}
	return u->path[number];
}

static void name_frame(struct unit_batch *u, struct mlsym_frame *frame, const struct scope *scope)
{
	struct names *names = &u->batch->handle->names;
	struct name *name = names_of_origin(names, u->found.file, &scope->origin, u->found.unit, u->found.loaded);
	if (!name)
		name = names_find(names, u->found.file, scope->entry, u->found.unit, u->found.loaded);
	if (!name || !name->text)
		return;
	if (name->batch != u->batch->handle->batches) {
		name->batch = u->batch->handle->batches;
		name->kept = keep_text(u->batch, name->text);
	}
	frame->function = name->kept;
	frame->flags |= name->linkage ? MLSYM_LINKAGE_NAME : 0;
}

static void frames_of(struct unit_batch *u, uint32_t i)
{
	const struct place *place = &u->place[i];
	uint32_t scope = u->found.innermost ? u->found.innermost[i] : NO_SCOPE;
	if (!place->found && scope == NO_SCOPE)
		return;
	uint32_t file = place->found ? path_of(u, place->file) : 0;
	struct mlsym_frame next = {.address = u->index[i], .line = place->line, .column = place->column,
				   .discriminator = place->discriminator, .file = file, .flags = place->found ? MLSYM_LINE : 0};
	for (int depth = 0; depth < DEPTH_MOST; depth++) {
		struct mlsym_frame *frame = new_frame(u->batch);
		if (!frame)
			return;
		*frame = next;
		if (scope == NO_SCOPE)
			return;
		const struct scope *at = &u->found.scope[scope];
		frame->flags |= at->outer != NO_SCOPE ? MLSYM_INLINED : 0;
		frame->entry = at->entry;
		frame->low = at->low;
		uint64_t number = u->batch->frames - 1;
		struct mlsym_frame named = *frame;
		name_frame(u, &named, at);
		u->batch->frame[number] = named;
		scope = at->outer;
		if (scope == NO_SCOPE)
			return;
		next = (struct mlsym_frame){.address = u->index[i], .line = at->call_line, .column = at->call_column,
					    .discriminator = at->call_discriminator, .file = path_of(u, at->call_file)};
		next.flags = at->call_line || next.file ? MLSYM_LINE : 0;
	}
}

static void note_split(struct batch *batch, uint32_t number, const struct unit *unit)
{
	if (!room_for(batch, (void **)&batch->split, &batch->splits_room, batch->splits + 1, sizeof(*batch->split)))
		return;
	uint32_t name = keep_text(batch, unit->dwo_name), directory = keep_text(batch, unit->comp_dir);
	batch->split[batch->splits++] = (struct mlsym_split){number, unit->dwo_id, name, directory};
}

// The unit whose entries tell of functions: itself, or the one that it stands for.
static void choose_entries(struct unit_batch *u, uint32_t number)
{
	struct unit *unit = u->unit;
	u->found.file = &u->batch->handle->main;
	u->found.unit = unit;
	if (!unit->dwo_name)
		return;
	if (!unit->split) {
		note_split(u->batch, number, unit);
		return;
	}
	u->found.file = unit->split;
	u->found.unit = unit->split_unit;
}

// Keeps of a unit's addresses those that it has a line of.
static void claim_by_lines(struct unit_batch *u, uint32_t number)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < u->count; i++) {
		if (!u->place[i].found)
			continue;
		u->index[kept] = u->index[i];
		u->address[kept] = u->address[i];
		u->place[kept++] = u->place[i];
		u->batch->owner[u->index[i]] = number;
		u->batch->without--;
	}
	u->count = kept;
}

static void look_up_unit(struct batch *batch, uint32_t number, uint32_t *index, uint32_t count)
{
	struct debug_file *file = &batch->handle->main;
	struct unit_batch u = {.batch = batch, .unit = &file->unit[number], .index = index, .count = count};
	if (!unit_read_root(file, u.unit))
		return;
	u.address = malloc(count * sizeof(*u.address));
	u.place = calloc(count, sizeof(*u.place));
	u.found.innermost = malloc(count * sizeof(*u.found.innermost));
	if (!u.address || !u.place || !u.found.innermost) {
		batch->failed = true;
		goto done;
	}
	for (uint32_t i = 0; i < count; i++) {
		u.address[i] = u.place[i].address = batch->address[index[i]];
		u.found.innermost[i] = NO_SCOPE;
	}
	if (lines_run(file, u.unit, u.place, count, &u.lines) && (u.path = malloc((u.lines.entries + 1) * sizeof(*u.path))))
		memset(u.path, 0xFF, (u.lines.entries + 1) * sizeof(*u.path));
	if (batch->owner[index[0]] == NO_UNIT)
		claim_by_lines(&u, number);
	if (!u.count)
		goto done;
	choose_entries(&u, number);
	u.found.address = u.address;
	u.found.count = u.count;
	if (u.found.unit->usable && unit_read_root(u.found.file, u.found.unit))
		functions_find(&u.found);
	for (uint32_t i = 0; i < u.count; i++)
		frames_of(&u, i);
done:
	free(u.address);
	free(u.place);
	free(u.found.innermost);
	free(u.found.scope);
	free(u.path);
	line_table_free(&u.lines);
}

// A unit that nobody says the place of has the addresses that it has lines of. `index` has room for all.
static void look_up_silent(struct batch *batch, uint32_t *index)
{
	struct debug_file *file = &batch->handle->main;
	for (uint32_t i = 0; i < file->units && batch->without && batch->handle->work_left; i++) {
		const struct unit *unit = &file->unit[i];
		if (!unit->usable || !may_have_code(unit) || !unit->root_read || unit->has_ranges || unit->has_high_pc || !unit->has_lines)
			continue;
		uint32_t count = 0;
		for (uint32_t a = 0; a < batch->count; a++)
			if (batch->owner[a] == NO_UNIT)
				index[count++] = a;
		look_up_unit(batch, i, index, count);
	}
}

// ---- from outside --------------------------------------------------------------------------------

// Chains keep their order.
static void sort_frames(struct batch *batch)
{
	struct mlsym_frame *sorted = malloc((batch->frames + 1) * sizeof(*sorted));
	uint64_t *first = calloc((size_t)batch->count + 2, sizeof(*first));
	if (sorted && first) {
		for (uint64_t i = 0; i < batch->frames; i++)
			first[batch->frame[i].address + 1]++;
		for (uint32_t i = 0; i < batch->count; i++)
			first[i + 1] += first[i];
		for (uint64_t i = 0; i < batch->frames; i++)
			sorted[first[batch->frame[i].address]++] = batch->frame[i];
		free(batch->frame);
		batch->frame = sorted;
	} else {
		batch->failed = true;
		free(sorted);
	}
	free(first);
}

static void look_up(struct batch *batch)
{
	struct debug_file *file = &batch->handle->main;
	if (!units_list(file))
		return;
	find_units(batch);
	// Addresses by unit, in ascending order within each.
	uint32_t *first = calloc((size_t)file->units + 2, sizeof(*first)), *index = malloc(((size_t)batch->count + 1) * sizeof(*index));
	if (first && index) {
		for (uint32_t i = 0; i < batch->count; i++)
			if (batch->owner[i] != NO_UNIT)
				first[batch->owner[i] + 2]++;
		for (uint32_t i = 0; i < file->units; i++)
			first[i + 2] += first[i + 1];
		for (uint32_t i = 0; i < batch->count; i++)
			if (batch->owner[i] != NO_UNIT)
				index[first[batch->owner[i] + 1]++] = i;
		for (uint32_t i = 0; i < file->units; i++)
			if (first[i + 1] > first[i])
				look_up_unit(batch, i, index + first[i], first[i + 1] - first[i]);
		look_up_silent(batch, index);
	} else {
		batch->failed = true;
	}
	free(first);
	free(index);
}

struct mlsym_result *mlsym_lookup(mlsym *handle, const uint64_t *addresses, uint32_t count, uint64_t work)
{
	struct batch batch = {.handle = handle, .address = addresses, .count = count, .without = count};
	struct mlsym_result *result = malloc(sizeof(*result));
	batch.owner = malloc(((size_t)count + 1) * sizeof(*batch.owner));
	if (!result || !batch.owner) {
		free(result);
		free(batch.owner);
		return NULL;
	}
	for (uint32_t i = 0; i < count; i++)
		batch.owner[i] = NO_UNIT;
	handle->batches++;
	keep_text(&batch, ""); // 0 is no text
	handle->work_left = work;
	names_make_room(&handle->names);
	look_up(&batch);
	sort_frames(&batch);
	free(batch.owner);
	*result = (struct mlsym_result){
	    .frames = batch.frame, .splits = batch.split, .text = batch.text, .frame_count = batch.frames,
	    .split_count = batch.splits, .text_bytes = batch.text_bytes, .complete = handle->work_left && !batch.failed,
	};
	return result;
}

void mlsym_result_free(struct mlsym_result *result)
{
	if (!result)
		return;
	free((void *)(uintptr_t)result->frames);
	free((void *)(uintptr_t)result->splits);
	free((void *)(uintptr_t)result->text);
	free(result);
}
