// lines.c -- line programs of DWARF 2 to 5
//
// Invariant: a program is read once, front to end; each opcode takes at least a byte. Rows of one sequence are kept until it ends, for only
//            then is it known what it covers.
// Why:       tables of all rows are not built: of a unit's ten thousand rows a batch wants a few.
// Proof:     tests/unit/test_symbolize_engine.py
#include "lines.h"

#include "dwarf.h"

#include <stdlib.h>

#define TABLE_MOST (1U << 20) // files, and directories
#define ROWS_MOST (1U << 24)  // of one sequence
#define PROGRAM_MOST (1ULL << 30)

struct row {
	uint64_t address;
	uint32_t file, line, column, discriminator;
};

struct program {
	struct row *row; // of the sequence
	uint32_t rows, room;
	struct place *places;
	uint32_t count;
	uint8_t minimum, line_range, opcode_base, operands[256];
	int8_t line_base;
	struct row now;
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

static bool keep_row(struct program *p)
{
	if (p->rows == p->room) {
		uint32_t wanted = p->room ? p->room * 2 : 1024;
		struct row *grown = p->rows < ROWS_MOST ? realloc(p->row, wanted * sizeof(*grown)) : NULL;
		if (!grown)
			return false;
		p->row = grown;
		p->room = wanted;
	}
	p->row[p->rows++] = p->now;
	p->now.discriminator = 0;
	return true;
}

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

// A sequence ends before p->now.address. Of rows with one address the last counts.
static void end_sequence(struct program *p)
{
	uint32_t rows = p->rows;
	p->rows = 0;
	if (!rows)
		return;
	for (uint32_t i = first_place(p, p->row[0].address); i < p->count && p->places[i].address < p->now.address; i++) {
		struct place *place = &p->places[i];
		uint32_t low = 0, high = rows;
		while (high - low > 1) {
			uint32_t middle = low + (high - low) / 2;
			if (p->row[middle].address <= place->address)
				low = middle;
			else
				high = middle;
		}
		if (place->found)
			continue;
		const struct row *row = &p->row[low];
		*place = (struct place){place->address, row->file, row->line, row->column, row->discriminator, true};
	}
}

static void begin_sequence(struct program *p) { p->now = (struct row){.file = 1, .line = 1}; }

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
		return true;
	case DW_LNE_set_address:
		p->now.address = length - 1 <= 8 ? bytes_fixed(&operand, (unsigned)(length - 1)) : 0;
		return true;
	case DW_LNE_define_file: {
		struct value name = {.form = DW_FORM_string, .text = bytes_string(&operand)};
		uint64_t directory = bytes_uleb(&operand);
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
	case DW_LNS_copy: return keep_row(p);
	case DW_LNS_advance_pc: p->now.address += bytes_uleb(b) * p->minimum; return true;
	case DW_LNS_advance_line: p->now.line += (uint32_t)bytes_sleb(b); return true;
	case DW_LNS_set_file: p->now.file = (uint32_t)bytes_uleb(b); return true;
	case DW_LNS_set_column: p->now.column = (uint32_t)bytes_uleb(b); return true;
	case DW_LNS_const_add_pc: p->now.address += (255u - p->opcode_base) / p->line_range * p->minimum; return true;
	case DW_LNS_fixed_advance_pc: p->now.address += bytes_u16(b); return true;
	}
	for (unsigned i = 0; i < p->operands[opcode]; i++)
		bytes_skip_leb(b);
	return true;
}

static void run(struct line_table *t, struct program *p, struct bytes *b)
{
	begin_sequence(p);
	while (b->at < b->end && !b->bad) {
		uint8_t opcode = *b->at++;
		bool goes_on = true;
		if (likely(opcode >= p->opcode_base)) {
			unsigned adjusted = opcode - p->opcode_base;
			p->now.address += adjusted / p->line_range * p->minimum;
			p->now.line += (uint32_t)(p->line_base + (int)(adjusted % p->line_range));
			goes_on = keep_row(p);
		} else if (opcode == 0) {
			goes_on = extended(t, p, b);
		} else {
			goes_on = standard(p, opcode, b);
		}
		if (!goes_on)
			return;
	}
}

// ---- from outside --------------------------------------------------------------------------------

bool lines_run(struct debug_file *file, const struct unit *unit, struct place *places, uint32_t count, struct line_table *table)
{
	*table = (struct line_table){.file = file, .unit = unit};
	const struct section *section = &file->section[SECTION_LINE];
	uint8_t head[12];
	struct bytes b = section_part(section, unit->lines, sizeof(head), head);
	uint64_t length = bytes_u32(&b);
	if (length == 0xFFFFFFFF)
		length = bytes_u64(&b);
	if (!unit->has_lines || b.bad || length > PROGRAM_MOST)
		return false;
	length += sizeof(head);
	if (!section->memory && !(table->bytes = malloc(length)))
		return false;
	b = section_part(section, unit->lines, (size_t)length, table->bytes);
	struct program p = {.places = places, .count = count};
	bool good = read_header(table, &p, &b);
	if (good)
		run(table, &p, &b);
	free(p.row);
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
