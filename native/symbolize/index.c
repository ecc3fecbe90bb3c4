// index.c -- recording an index while a unit is read, and carrying it from one process to the next
//
// Invariant: an index is complete or it is not there. What one says of entries is checked where they are read, as the file itself is.
// Why:       reading a unit takes milliseconds; with its index only the functions and sequences that are wanted are read.
// Proof:     tests/unit/test_symbolize_index.py
#include "index.h"

#include <stdlib.h>

#define RANGES_MOST (1U << 24)
#define ROOM_FIRST 64U
#define FORMAT 1U
#define HAS_JUMPED 1U
#define IS_FULL 2U

// ---- recording -----------------------------------------------------------------------------------

// One that was imported is as large as it has to be, which may be nothing.
static bool grow(struct index_recording *r)
{
	uint32_t old = r->index ? r->index->room : 0, room = old ? old * 2 : ROOM_FIRST;
	struct function_index *grown = NULL;
	uint64_t more = (uint64_t)(room - old) * sizeof(grown->range[0]);
	if (room <= RANGES_MOST && more <= *r->left)
		grown = realloc(r->index, sizeof(*grown) + (size_t)room * sizeof(grown->range[0]));
	if (!grown)
		return false;
	*r->left -= more;
	grown->room = room;
	r->index = grown;
	return true;
}

static void release(struct index_recording *r)
{
	*r->left += (uint64_t)r->index->room * sizeof(r->index->range[0]);
	free(r->index);
	r->index = NULL;
}

bool index_begin(struct index_recording *r, struct debug_file *file, struct unit *unit, bool second)
{
	*r = (struct index_recording){.left = file->index_left, .second = second};
	if (second) {
		r->index = unit->functions; // it moves as it grows: the unit is given it back
		unit->functions = NULL;
		return r->index != NULL;
	}
	if (!grow(r))
		return false;
	*r->index = (struct function_index){.room = ROOM_FIRST};
	return true;
}

void index_record(struct index_recording *r, const struct indexed_range *range)
{
	struct function_index *index = r->index;
	if (!index)
		return;
	if (r->second) {
		while (r->met < index->first_count && index->range[r->met].entry < range->entry)
			r->met++;
		if (r->met < index->first_count && index->range[r->met].entry == range->entry)
			return;
	}
	if (index->count == index->room && !grow(r)) {
		release(r);
		return;
	}
	index = r->index;
	index->range[index->count++] = *range;
	if (!r->second)
		index->first_count = index->count;
}

void index_keep(struct index_recording *r, struct unit *unit, bool jumped)
{
	if (!r->index)
		return;
	if (r->second)
		r->index->full = true;
	else
		r->index->jumped = jumped;
	unit->functions = r->index;
	r->index = NULL;
}

void index_drop(struct index_recording *r, struct unit *unit)
{
	if (!r->index)
		return;
	if (r->second) {
		r->index->count = r->index->first_count;
		unit->functions = r->index;
		r->index = NULL;
	} else {
		release(r);
	}
}

void sequences_free(struct sequence_index *index, uint64_t *left)
{
	*left += index ? (uint64_t)index->room * sizeof(index->sequence[0]) : 0;
	free(index);
}

bool sequences_record(struct sequence_index **index, uint64_t *left, const struct indexed_sequence *sequence)
{
	struct sequence_index *at = *index;
	uint32_t count = at ? at->count : 0;
	if (!at || count == at->room) {
		uint32_t room = at && at->room ? at->room * 2 : ROOM_FIRST;
		uint64_t more = (uint64_t)(room - count) * sizeof(at->sequence[0]);
		at = room <= RANGES_MOST && more <= *left ? realloc(at, sizeof(*at) + room * sizeof(at->sequence[0])) : NULL;
		if (!at) {
			sequences_free(*index, left);
			*index = NULL;
			return false;
		}
		*left -= more;
		*at = (struct sequence_index){count, room};
		*index = at;
	}
	at->sequence[at->count++] = *sequence;
	return true;
}

// ---- as bytes ------------------------------------------------------------------------------------

// Little-endian words of 8 bytes: the format and how many units; of each its offset, counts and flags, its ranges and its sequences.
#define HEAD_WORDS 1U
#define UNIT_WORDS 4U
#define RANGE_WORDS 3U
#define SEQUENCE_WORDS 5U
#define HAS_FUNCTIONS 4U
#define HAS_SEQUENCES 8U

static bool is_indexed(const struct unit *unit) { return unit->functions || unit->sequences; }

static uint64_t words_of(const struct unit *unit)
{
	return UNIT_WORDS + (unit->functions ? (uint64_t)unit->functions->count * RANGE_WORDS : 0) +
	       (unit->sequences ? (uint64_t)unit->sequences->count * SEQUENCE_WORDS : 0);
}

static uint8_t *put(uint8_t *at, uint64_t word)
{
	memcpy(at, &word, sizeof(word));
	return at + sizeof(word);
}

static uint8_t *put_unit(uint8_t *at, const struct unit *unit)
{
	static const struct function_index no_functions;
	static const struct sequence_index no_sequences;
	const struct function_index *functions = unit->functions ? unit->functions : &no_functions;
	const struct sequence_index *sequences = unit->sequences ? unit->sequences : &no_sequences;
	at = put(at, unit->offset);
	at = put(at, (uint64_t)functions->first_count << 32 | functions->count);
	at = put(at, sequences->count);
	at = put(at, (functions->jumped ? HAS_JUMPED : 0) | (functions->full ? IS_FULL : 0) | (unit->functions ? HAS_FUNCTIONS : 0) |
			 (unit->sequences ? HAS_SEQUENCES : 0));
	for (uint32_t i = 0; i < functions->count; i++) {
		at = put(at, functions->range[i].low);
		at = put(at, functions->range[i].high);
		at = put(at, (uint64_t)functions->range[i].end << 32 | functions->range[i].entry);
	}
	for (uint32_t i = 0; i < sequences->count; i++) {
		const struct indexed_sequence *sequence = &sequences->sequence[i];
		at = put(at, sequence->row.address);
		at = put(at, (uint64_t)sequence->row.line << 32 | sequence->row.file);
		at = put(at, (uint64_t)sequence->row.discriminator << 32 | sequence->row.column);
		at = put(at, sequence->high);
		at = put(at, (uint64_t)sequence->from_zero << 32 | sequence->offset);
	}
	return at;
}

uint32_t index_units(const struct debug_file *file)
{
	uint32_t units = 0;
	for (uint32_t i = 0; i < file->units; i++)
		units += is_indexed(&file->unit[i]);
	return units;
}

uint8_t *index_export(const struct debug_file *file, uint64_t *bytes)
{
	uint64_t words = HEAD_WORDS, units = index_units(file);
	for (uint32_t i = 0; i < file->units; i++)
		words += is_indexed(&file->unit[i]) ? words_of(&file->unit[i]) : 0;
	uint8_t *all = units ? malloc(words * 8) : NULL, *at = all;
	if (!all)
		return NULL;
	at = put(at, (uint64_t)FORMAT << 32 | units);
	for (uint32_t i = 0; i < file->units; i++)
		if (is_indexed(&file->unit[i]))
			at = put_unit(at, &file->unit[i]);
	*bytes = (uint64_t)(at - all);
	return all;
}

static bool read_range(struct bytes *b, const struct unit *unit, struct indexed_range *out)
{
	uint64_t size = unit->end - unit->dies;
	*out = (struct indexed_range){.low = bytes_u64(b), .high = bytes_u64(b)};
	out->entry = bytes_u32(b);
	out->end = bytes_u32(b);
	return !b->bad && out->low < out->high && out->entry < size && (!out->end || (out->end > out->entry && out->end <= size));
}

static struct function_index *read_functions(struct bytes *b, const struct unit *unit, uint32_t count, uint32_t first, uint64_t flags)
{
	if (first > count || count > bytes_left(b) / (8 * RANGE_WORDS))
		return NULL;
	struct function_index *index = malloc(sizeof(*index) + (size_t)count * sizeof(index->range[0]));
	if (!index)
		return NULL;
	*index = (struct function_index){count, count, first, flags & HAS_JUMPED, flags & IS_FULL};
	for (uint32_t i = 0; i < count; i++)
		if (!read_range(b, unit, &index->range[i])) {
			free(index);
			return NULL;
		}
	return index;
}

static struct sequence_index *read_sequences(struct bytes *b, uint64_t count)
{
	if (count > bytes_left(b) / (8 * SEQUENCE_WORDS))
		return NULL;
	struct sequence_index *index = malloc(sizeof(*index) + (size_t)count * sizeof(index->sequence[0]));
	if (!index)
		return NULL;
	*index = (struct sequence_index){(uint32_t)count, (uint32_t)count};
	for (uint32_t i = 0; i < count; i++) {
		struct indexed_sequence *sequence = &index->sequence[i];
		sequence->row.address = bytes_u64(b);
		sequence->row.file = bytes_u32(b);
		sequence->row.line = bytes_u32(b);
		sequence->row.column = bytes_u32(b);
		sequence->row.discriminator = bytes_u32(b);
		sequence->high = bytes_u64(b);
		sequence->offset = bytes_u32(b);
		sequence->from_zero = bytes_u32(b) & 1;
	}
	return index;
}

static bool read_unit(struct bytes *b, struct debug_file *file)
{
	struct unit *unit = units_with_header(file, bytes_u64(b));
	uint32_t count = bytes_u32(b), first = bytes_u32(b);
	uint64_t sequences = bytes_u64(b), flags = bytes_u64(b);
	if (b->bad || !unit || is_indexed(unit))
		return false;
	if (flags & HAS_FUNCTIONS && !(unit->functions = read_functions(b, unit, count, first, flags)))
		return false;
	return !(flags & HAS_SEQUENCES) || (unit->sequences = read_sequences(b, sequences));
}

void index_import(struct debug_file *file, struct bytes b)
{
	uint64_t head = bytes_u64(&b);
	if (head >> 32 != FORMAT || !units_list(file))
		return;
	for (uint32_t units = (uint32_t)head; units > 0 && read_unit(&b, file);)
		units--;
}
