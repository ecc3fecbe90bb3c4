// ranges.c -- lists of address ranges: .debug_ranges up to DWARF 4, .debug_rnglists from 5 on
//
// Invariant: a list ends at its end marker, at the section's end, or when no more may be read.
// Proof:     tests/unit/test_symbolize_dwarf.py, tests/unit/test_symbolize_engine.py, tests/fuzz/fuzz_symbolize.c
#include "ranges.h"

#include "dwarf.h"

struct walk {
	struct debug_file *file;
	struct unit *unit;
	range_visitor visit;
	void *context;
	uint64_t base;
};

static bool give(struct walk *w, uint64_t low, uint64_t high) { return low >= high || w->visit(w->context, low, high); }

static void old_list(struct walk *w, struct bytes b)
{
	unsigned width = w->unit->encoding.address_size;
	uint64_t all = width == 8 ? ~0ULL : 0xFFFFFFFF;
	while (!b.bad && work_spend(w->file->work_left, 1)) {
		uint64_t low = bytes_fixed(&b, width), high = bytes_fixed(&b, width);
		if (b.bad || (!low && !high))
			return;
		if (low == all)
			w->base = high;
		else if (!give(w, w->base + low, w->base + high))
			return;
	}
}

static uint64_t by_index(struct walk *w, struct bytes *b)
{
	struct value value = {.form = DW_FORM_addrx, .number = bytes_uleb(b)};
	uint64_t address = 0;
	if (!unit_address(w->file, w->unit, &value, &address))
		bytes_fail(b);
	return address;
}

static void new_list(struct walk *w, struct bytes b)
{
	unsigned width = w->unit->encoding.address_size;
	while (!b.bad && work_spend(w->file->work_left, 1)) {
		uint64_t low = 0, high = 0;
		switch (bytes_u8(&b)) {
		case DW_RLE_base_addressx: w->base = by_index(w, &b); continue;
		case DW_RLE_base_address: w->base = bytes_fixed(&b, width); continue;
		case DW_RLE_startx_endx: low = by_index(w, &b), high = by_index(w, &b); break;
		case DW_RLE_startx_length: low = by_index(w, &b), high = low + bytes_uleb(&b); break;
		case DW_RLE_offset_pair: low = w->base + bytes_uleb(&b), high = w->base + bytes_uleb(&b); break;
		case DW_RLE_start_end: low = bytes_fixed(&b, width), high = bytes_fixed(&b, width); break;
		case DW_RLE_start_length: low = bytes_fixed(&b, width), high = low + bytes_uleb(&b); break;
		default: return; // the end, or what nobody knows
		}
		if (b.bad || !give(w, low, high))
			return;
	}
}

void ranges_each(struct debug_file *file, struct unit *unit, const struct value *ranges, range_visitor visit, void *context)
{
	struct unit *whole = unit->skeleton ? unit->skeleton : unit;
	struct walk w = {file, unit, visit, context, whole->has_low_pc ? whole->low_pc : 0};
	uint64_t offset = ranges->number;
	if (unit->encoding.version < 5) {
		// A .dwo of GNU's kind has its ranges in the program's own section.
		struct debug_file *holder = unit->skeleton ? file->skeleton_file : file;
		if (unit->skeleton)
			offset += whole->ranges_base;
		old_list(&w, section_from(&holder->section[SECTION_RANGES], offset));
		return;
	}
	struct section *section = &file->section[SECTION_RNGLISTS];
	if (ranges->form == DW_FORM_rnglistx) {
		unsigned width = unit->encoding.offset_size;
		if (offset > section->size)
			return;
		struct bytes table = section_from(section, unit->rnglists_base + offset * width);
		offset = unit->rnglists_base + bytes_fixed(&table, width);
		if (table.bad)
			return;
	}
	new_list(&w, section_from(section, offset));
}

bool ranges_of_unit(struct debug_file *file, struct unit *unit, range_visitor visit, void *context)
{
	if (unit->has_ranges) {
		struct value ranges = {.form = unit->ranges_indexed ? DW_FORM_rnglistx : DW_FORM_sec_offset, .number = unit->ranges};
		ranges_each(file, unit, &ranges, visit, context);
		return true;
	}
	if (unit->has_high_pc && unit->low_pc < unit->high_pc)
		visit(context, unit->low_pc, unit->high_pc);
	return unit->has_high_pc;
}
