// linetable.c -- the header of a line program: files and directories, and how opcodes are to be read
//
// Proof: tests/unit/test_symbolize_dwarf.py, tests/unit/test_symbolize_engine.py, tests/fuzz/fuzz_symbolize.c
#include "linetable.h"

#include "dwarf.h"

#include <stdlib.h>

#define TABLE_MOST (1U << 20) // files, and directories

// ---- reading -------------------------------------------------------------------------------------

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

bool line_table_add(struct line_table *t, const struct value *name, uint64_t directory)
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
	if (!add_directory(t, &none) || !line_table_add(t, &none, 0))
		return false;
	struct value name;
	while (next_name(b, &name))
		if (!add_directory(t, &name))
			return false;
	while (next_name(b, &name)) {
		uint64_t directory = bytes_uleb(b);
		bytes_skip_leb(b); // when it was changed
		bytes_skip_leb(b); // its length
		if (b->bad || !line_table_add(t, &name, directory))
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
		if (b->bad || !(files ? line_table_add(t, &name, directory) : add_directory(t, &name)))
			return false;
	}
	return !b->bad;
}

bool line_table_read(struct line_table *t, struct bytes *b)
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
	t->minimum = bytes_u8(&header);
	if (t->encoding.version >= 4)
		bytes_skip(&header, 1); // operations of one instruction: more than one on VLIW machines only
	bytes_skip(&header, 1);		// whether a row is a statement by default
	t->line_base = (int8_t)bytes_u8(&header);
	t->line_range = bytes_u8(&header);
	t->opcode_base = bytes_u8(&header);
	for (unsigned i = 1; i < t->opcode_base; i++)
		t->operands[i] = bytes_u8(&header);
	if (header.bad || !t->line_range)
		return false;
	if (t->encoding.version < 5)
		return old_tables(t, &header);
	return new_table(t, &header, false) && new_table(t, &header, true);
}

// ---- paths ---------------------------------------------------------------------------------------

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

char *line_table_path(const struct line_table *t, uint64_t number)
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

void line_table_free(struct line_table *t)
{
	free(t->bytes);
	free(t->directory);
	free(t->entry);
	*t = (struct line_table){0};
}
