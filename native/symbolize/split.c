// split.c -- units whose entries stand in another file: a .dwo of their own, or a package of many
//
// Invariant: a unit is attached only to one that bears its id.
// Proof:     tests/unit/test_symbolize_engine.py
#include "handle.h"

#include "dwarf.h"

#include <stdlib.h>

#define WORK (1ULL << 24) // to find a unit

static struct debug_file *new_split(mlsym *handle, const struct mlsym_section *sections)
{
	struct debug_file **grown = realloc(handle->split, (handle->splits + 1) * sizeof(*grown));
	if (!grown)
		return NULL;
	handle->split = grown;
	struct debug_file *file = calloc(1, sizeof(*file));
	if (!file)
		return NULL;
	take_sections(handle, file, sections);
	file->skeleton_file = &handle->main;
	return handle->split[handle->splits++] = file;
}

static bool join(struct unit *skeleton, struct debug_file *file, struct unit *unit)
{
	bool can = unit->usable && (unit->type == DW_UT_compile || unit->type == DW_UT_split_compile) && !unit->skeleton;
	if (!can || !unit_read_root(file, unit) || unit->dwo_id != skeleton->dwo_id)
		return false;
	unit->skeleton = skeleton;
	skeleton->split = file;
	skeleton->split_unit = unit;
	return true;
}

int mlsym_attach_split(mlsym *handle, uint64_t number, const struct mlsym_section *sections)
{
	if (number >= handle->main.units || handle->main.unit[number].split)
		return -1;
	struct debug_file *file = new_split(handle, sections);
	if (!file || !units_list(file))
		return -1;
	handle->work_left = WORK;
	for (uint32_t i = 0; i < file->units; i++)
		if (join(&handle->main.unit[number], file, &file->unit[i]))
			return 0;
	return -1;
}

// ---- packages ------------------------------------------------------------------------------------

// A table of ids, by open addressing, and of each a row: where its part of each section begins. Which sections, says a first row.
struct package_index {
	struct bytes ids, rows, offsets;
	uint32_t columns, units, slots;
	int info, abbrev, str_offsets, rnglists; // columns; -1: there is none
};

static struct bytes part(struct bytes *b, uint64_t size)
{
	struct bytes taken = *b;
	bytes_skip(b, size);
	if (!b->bad)
		taken.end = taken.at + size;
	return taken;
}

static uint64_t word(struct bytes b, uint64_t index, unsigned width)
{
	bytes_skip(&b, index * width);
	return bytes_fixed(&b, width);
}

static bool read_index(struct section *section, struct package_index *out)
{
	struct bytes b = section_all(section);
	uint16_t version = bytes_u16(&b);
	bytes_skip(&b, 2);
	*out = (struct package_index){.columns = bytes_u32(&b), .units = bytes_u32(&b), .slots = bytes_u32(&b)};
	if (b.bad || (version != 2 && version != 5) || !out->slots || out->slots & (out->slots - 1) || out->columns > 64)
		return false;
	out->ids = part(&b, (uint64_t)out->slots * 8);
	out->rows = part(&b, (uint64_t)out->slots * 4);
	struct bytes sections = part(&b, (uint64_t)out->columns * 4);
	out->offsets = part(&b, (uint64_t)out->units * out->columns * 4);
	out->info = out->abbrev = out->str_offsets = out->rnglists = -1;
	for (uint32_t i = 0; i < out->columns && !b.bad; i++)
		switch (bytes_u32(&sections)) {
		case DW_SECT_INFO: out->info = (int)i; break;
		case DW_SECT_ABBREV: out->abbrev = (int)i; break;
		case DW_SECT_STR_OFFSETS: out->str_offsets = (int)i; break;
		case DW_SECT_RNGLISTS: out->rnglists = version == 5 ? (int)i : -1; break;
		}
	return !b.bad && out->info >= 0;
}

// The number of a unit's row; UINT32_MAX: it is not there.
static uint32_t row_of(const struct package_index *index, uint64_t id)
{
	uint32_t mask = index->slots - 1, slot = (uint32_t)id & mask, step = ((uint32_t)(id >> 32) & mask) | 1;
	for (uint32_t tries = 0; tries <= mask; tries++, slot = (slot + step) & mask) {
		uint32_t row = (uint32_t)word(index->rows, slot, 4);
		if (!row)
			break;
		if (word(index->ids, slot, 8) == id)
			return row <= index->units ? row - 1 : UINT32_MAX;
	}
	return UINT32_MAX;
}

static uint64_t offset_in(const struct package_index *index, uint32_t row, int column)
{
	return column < 0 ? 0 : word(index->offsets, (uint64_t)row * index->columns + (unsigned)column, 4);
}

int mlsym_open_package(mlsym *handle, const struct mlsym_section *sections, const struct mlsym_section *index)
{
	if (handle->package)
		return -1;
	handle->package = new_split(handle, sections);
	if (!handle->package)
		return -1;
	handle->package_index = section_of(index);
	return units_list(handle->package) ? 0 : -1;
}

int mlsym_attach_packaged(mlsym *handle, uint64_t number)
{
	struct package_index index;
	if (number >= handle->main.units || handle->main.unit[number].split || !handle->package ||
	    !read_index(&handle->package_index, &index))
		return -1;
	struct unit *skeleton = &handle->main.unit[number];
	uint32_t row = row_of(&index, skeleton->dwo_id);
	struct unit *unit = row == UINT32_MAX ? NULL : units_with_header(handle->package, offset_in(&index, row, index.info));
	if (!unit || unit->root_read)
		return -1;
	handle->work_left = WORK;
	unit->abbrev_offset += offset_in(&index, row, index.abbrev);
	unit->packaged_str_offsets = offset_in(&index, row, index.str_offsets);
	unit->packaged_rnglists = offset_in(&index, row, index.rnglists);
	return join(skeleton, handle->package, unit) ? 0 : -1;
}
