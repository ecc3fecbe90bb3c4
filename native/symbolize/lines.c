// lines.c -- line programs of DWARF 2 to 5
//
// Invariant: a program is read once, front to end; each opcode takes at least a byte.
// Why:       no table of rows is built: of a unit's ten thousand rows a batch wants a few. A row is compared with the next address that is
//            wanted, and forgotten.
// Proof:     tests/unit/test_symbolize_dwarf.py, tests/unit/test_symbolize_engine.py, tests/fuzz/fuzz_symbolize.c
#include "lines.h"

#include "dwarf.h"
#include "index.h"

#include <stdlib.h>

#define PROGRAM_MOST (1ULL << 30)
#define PART_BYTES 256U // of a program, after which the next row begins a part of its own
#define BYTES_PER_WORK 2U

struct program {
	uint32_t first_file; // that each sequence begins in
	struct place *places;
	uint32_t count, next; // the first place that no row of the sequence has passed
	uint64_t wanted;      // its address; the highest there is if there is none
	uint64_t *work_left, *index_left;
	const struct line_table *table;
	uint8_t opcode_base;
	struct row now, last; // the registers; the row before
	bool begun, from_zero, lost; // the sequence has a row; its first one is at the address 0; its rest covers nothing
	uint16_t advance[256]; // what a special opcode adds to the address, and to the line
	int16_t step[256];
	const uint8_t *start; // the first opcode
	bool single;	      // a part is read, that ends at
	uint64_t end;
	struct indexed_sequence part; // that is recorded
	struct sequence_index *recorded;
	bool recording, defines_files;
};

// ---- the program ---------------------------------------------------------------------------------

// The first whose address is not below.
static uint32_t first_place(const struct program *p, uint64_t address)
{
	uint32_t low = 0, high = p->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (p->places[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void want(struct program *p, uint32_t next)
{
	p->next = next;
	p->wanted = next < p->count ? p->places[next].address : UINT64_MAX;
}

// The last row covers what lies before the next one. An earlier sequence that covers a place has it.
static void __attribute__((noinline)) give_places(struct program *p)
{
	uint32_t i = p->next;
	for (; i < p->count && p->places[i].address < p->now.address && work_spend(p->work_left, 1); i++) {
		struct place *place = &p->places[i];
		if (!place->found || (place->from_zero && !p->from_zero))
			*place = (struct place){place->address, p->last.file, p->last.line, p->last.column, p->last.discriminator, true,
						p->from_zero};
	}
	want(p, i);
}

static void end_part(struct program *p, uint64_t high)
{
	p->part.high = high;
	if (p->recording && p->part.row.address < high)
		p->recording = sequences_record(&p->recorded, p->index_left, &p->part);
}

// The row is p->last, and `at` is what follows it.
static void begin_part(struct program *p, const uint8_t *at)
{
	p->part.row = p->last;
	p->part.offset = (uint32_t)(at - p->start);
	p->part.from_zero = p->from_zero;
}

// A row's address may not be below the one before, nor the end's. Where it is, as in what lld took out and put at the last address there is, the rest of
// the sequence covers nothing.
static void __attribute__((noinline)) lose(struct program *p)
{
	end_part(p, p->last.address);
	p->part.row.address = UINT64_MAX;
	p->lost = true;
	want(p, p->count);
}

static void __attribute__((noinline)) new_row(struct program *p, const uint8_t *at)
{
	bool begins = !p->begun;
	if (unlikely(begins)) {
		p->begun = true;
		p->from_zero = !p->now.address;
		want(p, first_place(p, p->now.address));
	} else if (unlikely(p->now.address < p->last.address && !p->lost)) {
		lose(p);
	} else if (unlikely(p->wanted < p->now.address)) {
		give_places(p);
	}
	bool grown = at - p->start - p->part.offset > PART_BYTES && p->last.address < p->now.address && p->recording && !p->lost;
	if (unlikely(grown))
		end_part(p, p->now.address);
	p->last = p->now;
	p->now.discriminator = 0;
	if (unlikely(begins || grown))
		begin_part(p, at);
}

static void end_sequence(struct program *p)
{
	if (!p->begun || p->lost)
		return;
	if (p->now.address < p->last.address) {
		lose(p);
		return;
	}
	if (p->wanted < p->now.address)
		give_places(p);
	end_part(p, p->now.address);
}

static void begin_sequence(struct program *p)
{
	p->now = (struct row){.file = p->first_file, .line = 1};
	p->begun = p->lost = false;
}

static bool extended(struct line_table *t, struct program *p, struct bytes *b)
{
	uint64_t length = bytes_uleb(b);
	if (b->bad || length > bytes_left(b) || !length)
		return !b->bad && !length;
	struct bytes operand = {b->at, b->at + length, false};
	b->at += length;
	switch (bytes_u8(&operand)) {
	case DW_LNE_end_sequence:
		end_sequence(p);
		begin_sequence(p);
		return !p->single;
	case DW_LNE_set_address:
		p->now.address = length - 1 <= 8 ? bytes_fixed(&operand, (unsigned)(length - 1)) : 0;
		return true;
	case DW_LNE_define_file: {
		struct value name = {.form = DW_FORM_string, .text = bytes_string(&operand)};
		uint64_t directory = bytes_uleb(&operand);
		p->defines_files = true;
		return operand.bad || line_table_add(t, &name, directory);
	}
	case DW_LNE_set_discriminator:
		p->now.discriminator = (uint32_t)bytes_uleb(&operand);
		return true;
	}
	return true;
}

// What a row may be compared with and be forgotten: most reach no address that is wanted, and begin no part.
struct quiet {
	uint64_t wanted;
	const uint8_t *limit;
};

static struct quiet quiet_of(const struct program *p, const uint8_t *end)
{
	uint64_t left = (uint64_t)(end - p->start) - p->part.offset;
	bool may_begin = p->recording && !p->lost && left > PART_BYTES;
	if (!p->begun)
		return (struct quiet){0, NULL}; // no row is quiet
	return (struct quiet){p->wanted, may_begin ? p->start + p->part.offset + PART_BYTES : end};
}

// The registers are kept out of memory: a program has millions of opcodes, and a row changes one or two of them.
static void run(struct line_table *t, struct program *p, struct bytes *b)
{
	struct row now = p->now, last = p->last;
	struct bytes c = *b;
	struct quiet quiet = quiet_of(p, c.end);
	while (c.at < c.end && !c.bad && (!p->single || last.address < p->end)) {
		uint8_t opcode = *c.at++;
		if (likely(opcode >= p->opcode_base)) {
			now.address += p->advance[opcode];
			now.line += (uint32_t)(int32_t)p->step[opcode];
		} else {
			switch (opcode) {
			case 0:
				p->now = now;
				p->last = last;
				struct bytes rest = c; // so that `c` is in no memory
				bool goes_on = extended(t, p, &rest);
				c = rest;
				now = p->now;
				last = p->last;
				quiet = quiet_of(p, c.end);
				if (goes_on)
					continue;
				*b = c;
				return;
			case DW_LNS_copy: break;
			case DW_LNS_advance_pc: now.address += bytes_uleb(&c) * t->minimum; continue;
			case DW_LNS_advance_line: now.line += (uint32_t)bytes_sleb(&c); continue;
			case DW_LNS_set_file: now.file = (uint32_t)bytes_uleb(&c); continue;
			case DW_LNS_set_column: now.column = (uint32_t)bytes_uleb(&c); continue;
			case DW_LNS_const_add_pc: now.address += p->advance[255]; continue;
			case DW_LNS_fixed_advance_pc: now.address += bytes_u16(&c); continue;
			default:
				for (unsigned i = 0; i < t->operands[opcode]; i++)
					bytes_skip_leb(&c);
				continue;
			}
		}
		if (likely(now.address >= last.address && now.address <= quiet.wanted && c.at <= quiet.limit)) {
			last = now;
			now.discriminator = 0;
			continue;
		}
		p->now = now;
		p->last = last;
		new_row(p, c.at);
		now = p->now;
		last = p->last;
		quiet = quiet_of(p, c.end);
	}
	p->now = now;
	p->last = last;
	*b = c;
}

static void prepare(struct program *p, const struct line_table *t, const struct bytes *b)
{
	p->table = t;
	p->opcode_base = t->opcode_base;
	for (unsigned opcode = t->opcode_base; opcode < 256; opcode++) {
		p->advance[opcode] = (uint16_t)((opcode - t->opcode_base) / t->line_range * t->minimum);
		p->step[opcode] = (int16_t)(t->line_base + (int)((opcode - t->opcode_base) % t->line_range));
	}
	p->start = b->at;
}

static void run_whole(struct line_table *t, struct program *p, struct bytes *b, struct unit *unit)
{
	p->recording = true;
	begin_sequence(p);
	run(t, p, b);
	if (p->begun && !p->lost) // a program may end without an end of its last sequence
		end_part(p, p->last.address);
	// A part may use files that are defined before it: without those there is no reading it by itself.
	if (p->recording && !b->bad && !p->defines_files)
		unit->sequences = p->recorded;
	else
		sequences_free(p->recorded, p->index_left);
}

static void run_indexed(struct line_table *t, struct program *p, const struct bytes *b, const struct sequence_index *index)
{
	for (uint32_t i = 0; i < index->count; i++) {
		const struct indexed_sequence *part = &index->sequence[i];
		uint32_t place = first_place(p, part->row.address);
		if (place == p->count || p->places[place].address >= part->high)
			continue;
		struct bytes at = *b;
		bytes_skip(&at, part->offset);
		p->now = p->last = part->row;
		p->now.discriminator = 0;
		p->begun = true;
		p->lost = false;
		p->from_zero = part->from_zero;
		p->end = part->high;
		p->single = true;
		want(p, place);
		run(t, p, &at);
	}
}

// ---- from outside --------------------------------------------------------------------------------

bool lines_run(struct debug_file *file, struct unit *unit, struct place *places, uint32_t count, struct line_table *table)
{
	*table = (struct line_table){.file = file, .unit = unit};
	const struct section *section = &file->section[SECTION_LINE];
	uint8_t head[12];
	struct bytes b = section_part(section, unit->lines, sizeof(head), head);
	uint64_t length = bytes_u32(&b);
	if (length == 0xFFFFFFFF)
		length = bytes_u64(&b);
	if (!unit->has_lines || b.bad || length > PROGRAM_MOST || !work_spend(file->work_left, length / BYTES_PER_WORK + count))
		return false;
	length += sizeof(head);
	if (!section->memory && !(table->bytes = malloc(length)))
		return false;
	b = section_part(section, unit->lines, (size_t)length, table->bytes);
	struct program p = {.places = places, .count = count, .work_left = file->work_left, .index_left = file->index_left};
	bool good = line_table_read(table, &b);
	p.first_file = file->begins_in_file_0 && table->encoding.version >= 5 ? 0 : 1;
	if (good) {
		prepare(&p, table, &b);
		if (unit->sequences)
			run_indexed(table, &p, &b, unit->sequences);
		else
			run_whole(table, &p, &b, unit);
	}
	return good;
}
