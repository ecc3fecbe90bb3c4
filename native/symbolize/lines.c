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

#define TABLE_MOST (1U << 20) // files, and directories
#define PROGRAM_MOST (1ULL << 30)
#define PART_BYTES 256U // of a program, after which the next row begins a part of its own
#define BYTES_PER_WORK 8U

struct program {
	uint32_t first_file; // that each sequence begins in
	struct place *places;
	uint32_t count, next; // the first place that no row of the sequence has passed
	uint64_t wanted;      // its address; the highest there is if there is none
	uint64_t *work_left;
	uint8_t minimum, line_range, opcode_base, operands[256];
	int8_t line_base;
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

// ---- the header ----------------------------------------------------------------------------------

static bool add(void **array, uint32_t used, size_t each)
{
	if (used & (used - 1) || used >= TABLE_MOST) // full at 0, 1, 2, 4 …
		return used < TABLE_MOST;
	void *grown = realloc(*array, (used ? used * 2 : 1) * each);
	if (grown)
		*array = grown;
	return grown != NULL;
}

static bool add_directory(struct line_table *t, const struct value *name)
{
	if (!add((void **)&t->directory, t->directories, sizeof(*t->directory)))
		return false;
	t->directory[t->directories++] = *name;
	return true;
}

static bool add_file(struct line_table *t, const struct value *name, uint64_t directory)
{
	if (!add((void **)&t->entry, t->entries, sizeof(*t->entry)))
		return false;
	t->entry[t->entries++] = (struct line_file){*name, directory};
	return true;
}

// False: that was the end marker, or nothing more can be read.
static bool next_name(struct bytes *b, struct value *name)
{
	*name = (struct value){.form = DW_FORM_string, .text = bytes_string(b)};
	return !b->bad && *name->text;
}

// Before DWARF 5: directory 0 is the unit's, file 0 is none.
static bool old_tables(struct line_table *t, struct bytes *b)
{
	struct value none = {0};
	if (!add_directory(t, &none) || !add_file(t, &none, 0))
		return false;
	struct value name;
	while (next_name(b, &name))
		if (!add_directory(t, &name))
			return false;
	while (next_name(b, &name)) {
		uint64_t directory = bytes_uleb(b);
		bytes_skip_leb(b); // when it was changed
		bytes_skip_leb(b); // its length
		if (b->bad || !add_file(t, &name, directory))
			return false;
	}
	return !b->bad;
}

static bool new_table(struct line_table *t, struct bytes *b, bool files)
{
	struct attribute_spec format[256];
	unsigned formats = bytes_u8(b);
	for (unsigned i = 0; i < formats; i++) {
		uint64_t name = bytes_uleb(b), form = bytes_uleb(b);
		format[i] = (struct attribute_spec){name < 0xFFFF ? (uint16_t)name : 0, form < 0xFFFF ? (uint16_t)form : 0xFFFF, 0};
	}
	uint64_t count = bytes_uleb(b);
	for (uint64_t i = 0; i < count && formats; i++) {
		struct value name = {0};
		uint64_t directory = 0;
		if (!work_spend(t->file->work_left, formats))
			return false;
		for (unsigned f = 0; f < formats; f++) {
			struct value value;
			value_read(b, &format[f], t->encoding, &value);
			if (format[f].name == DW_LNCT_path)
				name = value;
			else if (format[f].name == DW_LNCT_directory_index)
				directory = value.number;
		}
		if (b->bad || !(files ? add_file(t, &name, directory) : add_directory(t, &name)))
			return false;
	}
	return !b->bad;
}

// Leaves the cursor at the program.
static bool read_header(struct line_table *t, struct program *p, struct bytes *b)
{
	bool dwarf64;
	if (!bytes_initial_length(b, &dwarf64))
		return false;
	t->encoding = (struct encoding){(uint8_t)bytes_u16(b), t->unit->encoding.address_size, dwarf64 ? 8 : 4};
	if (t->encoding.version < 2 || t->encoding.version > 5)
		return false;
	if (t->encoding.version == 5) {
		t->encoding.address_size = bytes_u8(b);
		bytes_skip(b, 1); // of a segment's selector
		if (t->encoding.address_size != 4 && t->encoding.address_size != 8)
			return false;
	}
	uint64_t length = bytes_fixed(b, t->encoding.offset_size);
	if (b->bad || length > bytes_left(b))
		return false;
	struct bytes header = {b->at, b->at + length, false};
	b->at += length;
	p->minimum = bytes_u8(&header);
	if (t->encoding.version >= 4)
		bytes_skip(&header, 1); // operations of one instruction: more than one on VLIW machines only
	bytes_skip(&header, 1);		// whether a row is a statement by default
	p->line_base = (int8_t)bytes_u8(&header);
	p->line_range = bytes_u8(&header);
	p->opcode_base = bytes_u8(&header);
	for (unsigned i = 1; i < p->opcode_base; i++)
		p->operands[i] = bytes_u8(&header);
	if (header.bad || !p->line_range)
		return false;
	if (t->encoding.version < 5)
		return old_tables(t, &header);
	return new_table(t, &header, false) && new_table(t, &header, true);
}

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
		p->recording = sequences_record(&p->recorded, &p->part);
}

// The row is p->last, and `at` is what follows it.
static void begin_part(struct program *p, const uint8_t *at)
{
	p->part.row = p->last;
	p->part.offset = (uint32_t)(at - p->start);
	p->part.from_zero = p->from_zero;
}

// A row's address may not be below the one before. Where it is, as in what lld took out and put at the last address there is, the rest of
// the sequence covers nothing.
static void __attribute__((noinline)) lose(struct program *p)
{
	end_part(p, p->last.address);
	p->part.row.address = UINT64_MAX;
	p->lost = true;
	want(p, p->count);
}

static inline void new_row(struct program *p, const uint8_t *at)
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
		return operand.bad || add_file(t, &name, directory);
	}
	case DW_LNE_set_discriminator:
		p->now.discriminator = (uint32_t)bytes_uleb(&operand);
		return true;
	}
	return true;
}

static bool standard(struct program *p, uint8_t opcode, struct bytes *b)
{
	switch (opcode) {
	case DW_LNS_copy: new_row(p, b->at); return true;
	case DW_LNS_advance_pc: p->now.address += bytes_uleb(b) * p->minimum; return true;
	case DW_LNS_advance_line: p->now.line += (uint32_t)bytes_sleb(b); return true;
	case DW_LNS_set_file: p->now.file = (uint32_t)bytes_uleb(b); return true;
	case DW_LNS_set_column: p->now.column = (uint32_t)bytes_uleb(b); return true;
	case DW_LNS_const_add_pc: p->now.address += p->advance[255]; return true;
	case DW_LNS_fixed_advance_pc: p->now.address += bytes_u16(b); return true;
	}
	for (unsigned i = 0; i < p->operands[opcode]; i++)
		bytes_skip_leb(b);
	return true;
}

// Special opcodes are nine of ten, and most follow one another: of the registers only address and line change.
static void special_rows(struct program *p, struct bytes *b)
{
	const uint8_t *at = b->at, *end = b->end, base = p->opcode_base;
	uint64_t address = p->now.address, wanted = p->wanted;
	uint32_t line = p->now.line;
	for (bool more = p->begun && address >= p->last.address; more; more = at < end && *at >= base) {
		// Those that follow the last row, and reach no address that is wanted.
		uint64_t next = address + p->advance[*at];
		if (unlikely(next > wanted))
			break;
		address = next;
		line += (uint32_t)(int32_t)p->step[*at++];
	}
	if (at > b->at) { // the last of them
		p->last = (struct row){address, p->now.file, line, p->now.column, at > b->at + 1 ? 0 : p->now.discriminator};
		p->now.discriminator = 0;
	}
	p->now.address = address;
	p->now.line = line;
	b->at = at;
	if (at == end || *at < base)
		return;
	p->now.address += p->advance[*at];
	p->now.line += (uint32_t)(int32_t)p->step[*at];
	b->at++;
	new_row(p, b->at);
}

static void run(struct line_table *t, struct program *p, struct bytes *b)
{
	while (b->at < b->end && !b->bad && (!p->single || p->last.address < p->end)) {
		if (likely(*b->at >= p->opcode_base)) {
			special_rows(p, b);
			continue;
		}
		uint8_t opcode = *b->at++;
		if (!(opcode ? standard(p, opcode, b) : extended(t, p, b)))
			return;
	}
}

static void prepare(struct program *p, const struct bytes *b)
{
	for (unsigned opcode = p->opcode_base; opcode < 256; opcode++) {
		p->advance[opcode] = (uint16_t)((opcode - p->opcode_base) / p->line_range * p->minimum);
		p->step[opcode] = (int16_t)(p->line_base + (int)((opcode - p->opcode_base) % p->line_range));
	}
	p->start = b->at;
}

static void run_whole(struct line_table *t, struct program *p, struct bytes *b, struct unit *unit)
{
	p->recording = true;
	begin_sequence(p);
	run(t, p, b);
	// A part may use files that are defined before it: without those there is no reading it by itself.
	if (p->recording && !b->bad && !p->defines_files)
		unit->sequences = p->recorded;
	else
		free(p->recorded);
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
	struct program p = {.places = places, .count = count, .work_left = file->work_left};
	bool good = read_header(table, &p, &b);
	p.first_file = file->begins_in_file_0 && table->encoding.version >= 5 ? 0 : 1;
	if (good) {
		prepare(&p, &b);
		if (unit->sequences)
			run_indexed(table, &p, &b, unit->sequences);
		else
			run_whole(table, &p, &b, unit);
	}
	return good;
}

static char *joined(const char *directory, const char *name)
{
	size_t first = strlen(directory), second = strlen(name);
	char *path = malloc(first + second + 2);
	if (!path)
		return NULL;
	memcpy(path, directory, first);
	if (first && path[first - 1] != '/')
		path[first++] = '/';
	memcpy(path + first, name, second + 1);
	return path;
}

char *lines_path(const struct line_table *t, uint64_t number)
{
	if (number >= t->entries || !t->entry[number].name.form)
		return NULL;
	const struct line_file *entry = &t->entry[number];
	char *name = unit_string(t->file, t->unit, &entry->name);
	if (!name || *name == '/')
		return name;
	char *directory = entry->directory < t->directories && t->directory[entry->directory].form
			      ? unit_string(t->file, t->unit, &t->directory[entry->directory])
			      : NULL;
	const char *base = t->unit->comp_dir;
	char *path = name;
	if (directory && *directory) {
		path = joined(directory, name);
		free(name);
	}
	bool absolute = path && *path == '/';
	free(directory);
	if (path && !absolute && base && *base) {
		char *whole = joined(base, path);
		free(path);
		path = whole;
	}
	return path;
}

void lines_free(struct line_table *t)
{
	free(t->bytes);
	free(t->directory);
	free(t->entry);
	*t = (struct line_table){0};
}
