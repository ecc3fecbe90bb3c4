// unit.c -- unit headers, their first entries, values and strings
//
// Invariant: units stand in ascending order and do not overlap. A unit that cannot be read stays in the list, unusable, so that those
//            behind it are found.
// Proof:     tests/unit/test_symbolize_dwarf.py, tests/unit/test_symbolize_engine.py, tests/fuzz/fuzz_symbolize.c
#include "unit.h"

#include "dwarf.h"

#include <stdlib.h>

#define UNITS_MOST (1U << 22)
#define HEADER_BYTES 64U
#define ROOT_BYTES 4096U // a first entry is some dozen bytes, but for names that stand in it
#define STRING_FIRST 256U
#define STRING_MOST (1U << 20)
#define UNIT_BYTES_MOST (1ULL << 31)
#define ZEROS_MOST 256U // between two units, for alignment
#define TEXT_PER_WORK 16U

// ---- values --------------------------------------------------------------------------------------

void value_read(struct bytes *b, const struct attribute_spec *spec, struct encoding e, struct value *out)
{
	uint16_t form = spec->form;
	for (int hops = 0; form == DW_FORM_indirect && hops < 4; hops++)
		form = (uint16_t)bytes_uleb(b);
	*out = (struct value){.form = form};
	switch (form) {
	case DW_FORM_implicit_const:
		out->number = (uint64_t)spec->implicit;
		if (spec->form != DW_FORM_implicit_const)
			bytes_fail(b);
		return;
	case DW_FORM_flag_present:
		out->number = 1;
		return;
	case DW_FORM_string:
		out->text = bytes_string(b);
		return;
	case DW_FORM_sdata:
		out->number = (uint64_t)bytes_sleb(b);
		return;
	case DW_FORM_udata:
	case DW_FORM_ref_udata:
	case DW_FORM_strx:
	case DW_FORM_addrx:
	case DW_FORM_rnglistx:
	case DW_FORM_GNU_addr_index:
	case DW_FORM_GNU_str_index:
		out->number = bytes_uleb(b);
		return;
	}
	int width = form_width(form, e);
	if (width >= 0 && width <= 8)
		out->number = bytes_fixed(b, (unsigned)width);
	else
		form_skip(b, form, e);
}

// ---- the list ------------------------------------------------------------------------------------

// Behind the length.
static void read_header(struct unit *unit, struct bytes *b)
{
	unit->encoding.version = (uint8_t)bytes_u16(b);
	if (unit->encoding.version >= 5) {
		unit->type = bytes_u8(b);
		unit->encoding.address_size = bytes_u8(b);
		unit->abbrev_offset = bytes_fixed(b, unit->encoding.offset_size);
		if (unit->type == DW_UT_skeleton || unit->type == DW_UT_split_compile)
			unit->dwo_id = bytes_u64(b);
		else if (unit->type == DW_UT_type || unit->type == DW_UT_split_type)
			bytes_skip(b, 8u + unit->encoding.offset_size);
	} else {
		unit->type = DW_UT_compile;
		unit->abbrev_offset = bytes_fixed(b, unit->encoding.offset_size);
		unit->encoding.address_size = bytes_u8(b);
	}
	unit->usable = !b->bad && unit->encoding.version >= 2 && unit->encoding.version <= 5 &&
		       (unit->encoding.address_size == 4 || unit->encoding.address_size == 8);
}

static struct unit *new_unit(struct debug_file *file)
{
	if (file->units == file->units_room) {
		uint32_t wanted = file->units_room ? file->units_room * 2 : 256;
		struct unit *grown = file->units < UNITS_MOST ? realloc(file->unit, wanted * sizeof(*grown)) : NULL;
		if (!grown)
			return NULL;
		file->unit = grown;
		file->units_room = wanted;
	}
	struct unit *unit = &file->unit[file->units++];
	*unit = (struct unit){0};
	return unit;
}

bool units_list(struct debug_file *file)
{
	if (file->units_listed)
		return file->units > 0;
	file->units_listed = true;
	const struct section *info = &file->section[SECTION_INFO];
	uint32_t zeros = 0;
	for (uint64_t offset = 0; offset < info->size;) {
		uint8_t header[HEADER_BYTES];
		struct bytes b = section_part(info, offset, sizeof(header), header);
		const uint8_t *start = b.at;
		uint64_t length = bytes_u32(&b);
		bool dwarf64 = length == 0xFFFFFFFF;
		if (dwarf64)
			length = bytes_u64(&b);
		uint64_t prefix = (uint64_t)(b.at - start);
		if (!b.bad && !length && zeros < ZEROS_MOST) {
			zeros += (uint32_t)prefix;
			offset += prefix;
			continue;
		}
		zeros = 0;
		struct unit *unit = b.bad || !length || length > info->size - offset - prefix ? NULL : new_unit(file);
		if (!unit)
			break; // nothing says where the next one is
		unit->offset = offset;
		unit->end = offset + prefix + length;
		unit->encoding.offset_size = dwarf64 ? 8 : 4;
		if (bytes_left(&b) > length)
			b.end = b.at + length;
		read_header(unit, &b);
		unit->dies = offset + (uint64_t)(b.at - start);
		offset = unit->end;
	}
	return file->units > 0;
}

static struct unit *unit_around(struct debug_file *file, uint64_t offset)
{
	uint32_t low = 0, high = units_list(file) ? file->units : 0;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (file->unit[middle].end <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low < file->units && file->unit[low].usable ? &file->unit[low] : NULL;
}

struct unit *units_at(struct debug_file *file, uint64_t offset)
{
	struct unit *unit = unit_around(file, offset);
	return unit && offset >= unit->dies ? unit : NULL;
}

struct unit *units_with_header(struct debug_file *file, uint64_t offset)
{
	struct unit *unit = unit_around(file, offset);
	return unit && offset == unit->offset ? unit : NULL;
}

bool unit_abbrevs(struct debug_file *file, const struct unit *unit)
{
	const struct abbrevs *t = &file->abbrevs;
	bool is_there = t->filled && t->offset == unit->abbrev_offset;
	return abbrevs_load(&file->abbrevs, &file->section[SECTION_ABBREV], unit->abbrev_offset, unit->encoding) &&
	       (is_there || work_spend(file->work_left, 1 + t->entries + t->specs / SPECS_PER_WORK));
}

struct bytes unit_load_part(struct debug_file *file, uint64_t offset, uint64_t size)
{
	const struct section *info = &file->section[SECTION_INFO];
	if (size > UNIT_BYTES_MOST)
		return bytes_none();
	if (!info->memory && size > file->buffer_room) {
		uint8_t *grown = realloc(file->buffer, size);
		if (!grown)
			return bytes_none();
		file->buffer = grown;
		file->buffer_room = (size_t)size;
	}
	return section_part(info, offset, (size_t)size, file->buffer);
}

struct bytes unit_load(struct debug_file *file, struct unit *unit) { return unit_load_part(file, unit->dies, unit->end - unit->dies); }

// ---- strings and addresses -----------------------------------------------------------------------

static char *string_at(struct debug_file *file, enum section_id id, uint64_t offset)
{
	const struct section *section = &file->section[id];
	size_t room = 0;
	char *buffer = NULL;
	for (size_t wanted = STRING_FIRST; wanted <= STRING_MOST; wanted *= 4) {
		char *grown = realloc(buffer, wanted);
		if (!grown)
			break;
		buffer = grown;
		room = wanted;
		struct bytes b = section_part(section, offset, room, (uint8_t *)buffer);
		if (!bytes_left(&b) || !work_spend(file->work_left, bytes_left(&b) / TEXT_PER_WORK))
			break;
		const char *text = bytes_string(&b);
		if (text) {
			memmove(buffer, text, strlen(text) + 1);
			return buffer;
		}
	}
	free(buffer);
	return NULL;
}

// A word of a table of words; false if it is not in it.
static bool indexed(struct section *section, uint64_t base, uint64_t index, unsigned width, uint64_t *out)
{
	uint8_t word[8];
	if (index > section->size || base > section->size)
		return false;
	struct bytes b = section_part(section, base + index * width, width, word);
	*out = bytes_fixed(&b, width);
	return !b.bad;
}

char *unit_string(struct debug_file *file, const struct unit *unit, const struct value *value)
{
	uint64_t offset;
	switch (value->form) {
	case DW_FORM_string:
		return value->text ? strdup(value->text) : NULL;
	case DW_FORM_strp:
		return string_at(file, SECTION_STR, value->number);
	case DW_FORM_line_strp:
		return string_at(file, SECTION_LINE_STR, value->number);
	case DW_FORM_strp_sup:
	case DW_FORM_GNU_strp_alt:
		return file->alternate ? string_at(file->alternate, SECTION_STR, value->number) : NULL;
	case DW_FORM_strx:
	case DW_FORM_strx1:
	case DW_FORM_strx2:
	case DW_FORM_strx3:
	case DW_FORM_strx4:
	case DW_FORM_GNU_str_index:
		if (!indexed(&file->section[SECTION_STR_OFFSETS], unit->str_offsets_base, value->number, unit->encoding.offset_size, &offset))
			return NULL;
		return string_at(file, SECTION_STR, offset);
	}
	return NULL;
}

bool unit_address(struct debug_file *file, const struct unit *unit, const struct value *value, uint64_t *out)
{
	switch (value->form) {
	case DW_FORM_addr:
		*out = value->number;
		return true;
	case DW_FORM_addrx:
	case DW_FORM_addrx1:
	case DW_FORM_addrx2:
	case DW_FORM_addrx3:
	case DW_FORM_addrx4:
	case DW_FORM_GNU_addr_index:
		if (unit->skeleton && file->skeleton_file) { // its addresses are the program's, not the .dwo's
			file = file->skeleton_file;
			unit = unit->skeleton;
		}
		return indexed(&file->section[SECTION_ADDR], unit->addr_base, value->number, unit->encoding.address_size, out);
	}
	return false;
}

// ---- the first entry -----------------------------------------------------------------------------

// Where a table of DWARF 5 begins if nothing says so: behind the header of the first one.
static uint64_t first_base(const struct unit *unit, unsigned header) { return unit->encoding.version < 5 ? 0 : header; }

struct root_values {
	struct value low_pc, high_pc, ranges, lines, name, comp_dir, dwo_name;
};

static bool has_plain_names(uint64_t language)
{
	static const uint8_t plain[] = {
	    DW_LANG_C89, DW_LANG_C, DW_LANG_Cobol74, DW_LANG_Cobol85, DW_LANG_Fortran77, DW_LANG_Pascal83, DW_LANG_C99,
	    DW_LANG_PLI, DW_LANG_UPC, DW_LANG_C11, DW_LANG_C17,
	};
	for (size_t i = 0; i < sizeof(plain); i++)
		if (language == plain[i])
			return true;
	return language == DW_LANG_Mips_Assembler;
}

static void note_root(struct unit *unit, struct root_values *root, uint16_t name, const struct value *value)
{
	switch (name) {
	case DW_AT_low_pc: root->low_pc = *value; break;
	case DW_AT_high_pc: root->high_pc = *value; break;
	case DW_AT_ranges: root->ranges = *value; break;
	case DW_AT_stmt_list: root->lines = *value; break;
	case DW_AT_name: root->name = *value; break;
	case DW_AT_comp_dir: root->comp_dir = *value; break;
	case DW_AT_language: unit->plain_names = has_plain_names(value->number); break;
	case DW_AT_dwo_name:
	case DW_AT_GNU_dwo_name: root->dwo_name = *value; break;
	case DW_AT_GNU_dwo_id: unit->dwo_id = value->number; break;
	case DW_AT_str_offsets_base: unit->str_offsets_base = value->number; break;
	case DW_AT_addr_base:
	case DW_AT_GNU_addr_base: unit->addr_base = value->number; break;
	case DW_AT_rnglists_base: unit->rnglists_base = value->number; break;
	case DW_AT_GNU_ranges_base: unit->ranges_base = value->number; break;
	}
}

// Bases first: what they are the base of may stand before them.
static void take_root(struct debug_file *file, struct unit *unit, const struct root_values *root)
{
	unit->has_low_pc = root->low_pc.form && unit_address(file, unit, &root->low_pc, &unit->low_pc);
	if (unit->has_low_pc && root->high_pc.form) {
		unit->has_high_pc = true;
		if (!unit_address(file, unit, &root->high_pc, &unit->high_pc))
			unit->high_pc = unit->low_pc + root->high_pc.number;
	}
	unit->has_ranges = root->ranges.form != 0;
	unit->ranges = root->ranges.number;
	unit->ranges_indexed = root->ranges.form == DW_FORM_rnglistx;
	unit->has_lines = root->lines.form != 0;
	unit->lines = root->lines.number;
	unit->name = unit_string(file, unit, &root->name);
	unit->comp_dir = unit_string(file, unit, &root->comp_dir);
	unit->dwo_name = unit_string(file, unit, &root->dwo_name);
}

bool unit_read_root(struct debug_file *file, struct unit *unit)
{
	if (unit->root_read)
		return unit->usable;
	unit->root_read = true;
	uint8_t buffer[ROOT_BYTES];
	struct bytes b = section_part(&file->section[SECTION_INFO], unit->dies, sizeof(buffer), buffer);
	if (!unit->usable)
		return false;
	if (!unit_abbrevs(file, unit)) {
		unit->root_read = *file->work_left != 0; // another lookup may have more left
		unit->usable = !unit->root_read;
		return false;
	}
	const struct abbrev *abbrev = abbrevs_find(&file->abbrevs, bytes_uleb(&b));
	if (!abbrev)
		return unit->usable = false;
	unit->str_offsets_base = unit->packaged_str_offsets + first_base(unit, unit->encoding.offset_size == 8 ? 16 : 8);
	unit->addr_base = first_base(unit, unit->encoding.offset_size == 8 ? 16 : 8);
	unit->rnglists_base = unit->packaged_rnglists + first_base(unit, unit->encoding.offset_size == 8 ? 20 : 12);
	struct root_values root = {0};
	for (uint32_t i = 0; i < abbrev->specs && !b.bad; i++) {
		const struct attribute_spec *spec = &file->abbrevs.spec[abbrev->first_spec + i];
		struct value value;
		value_read(&b, spec, unit->encoding, &value);
		note_root(unit, &root, spec->name, &value);
	}
	take_root(file, unit, &root);
	return true;
}

void debug_file_close(struct debug_file *file)
{
	for (uint32_t i = 0; i < file->units; i++) {
		free(file->unit[i].name);
		free(file->unit[i].comp_dir);
		free(file->unit[i].dwo_name);
		free(file->unit[i].functions);
		free(file->unit[i].sequences);
	}
	for (unsigned i = 0; i < SECTION_COUNT; i++)
		section_close(&file->section[i]);
	abbrevs_free(&file->abbrevs);
	free(file->unit);
	free(file->buffer);
	*file = (struct debug_file){0};
}
