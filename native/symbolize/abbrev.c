// abbrev.c -- reading a table of abbreviations, and how to pass over entries at two bytes a nanosecond
//
// Invariant: the table has what stands between its offset and its end marker, never more than MOST of either.
// Why:       nine of ten entries are passed over. Widths that do not vary are added up once per abbreviation, so most entries are
//            one addition.
// Proof:     tests/unit/test_symbolize_dwarf.py, tests/unit/test_symbolize_engine.py, tests/fuzz/fuzz_symbolize.c
#include "abbrev.h"

#include "dwarf.h"

#include <stdlib.h>

#define MOST (1U << 22) // abbreviations, and attributes of them all

static bool make_room(void **array, uint32_t *room, uint32_t used, size_t each)
{
	if (used < *room)
		return true;
	uint32_t wanted = *room ? *room * 2 : 256;
	void *grown = used < MOST ? realloc(*array, wanted * each) : NULL;
	if (!grown)
		return false;
	*array = grown;
	*room = wanted;
	return true;
}

int form_width(uint16_t form, struct encoding e)
{
	switch (form) {
	case DW_FORM_flag_present:
	case DW_FORM_implicit_const:
		return 0;
	case DW_FORM_data1:
	case DW_FORM_ref1:
	case DW_FORM_flag:
	case DW_FORM_strx1:
	case DW_FORM_addrx1:
		return 1;
	case DW_FORM_data2:
	case DW_FORM_ref2:
	case DW_FORM_strx2:
	case DW_FORM_addrx2:
		return 2;
	case DW_FORM_strx3:
	case DW_FORM_addrx3:
		return 3;
	case DW_FORM_data4:
	case DW_FORM_ref4:
	case DW_FORM_ref_sup4:
	case DW_FORM_strx4:
	case DW_FORM_addrx4:
		return 4;
	case DW_FORM_data8:
	case DW_FORM_ref8:
	case DW_FORM_ref_sig8:
	case DW_FORM_ref_sup8:
		return 8;
	case DW_FORM_data16:
		return 16;
	case DW_FORM_addr:
		return e.address_size;
	case DW_FORM_ref_addr:
		return e.version <= 2 ? e.address_size : e.offset_size;
	case DW_FORM_strp:
	case DW_FORM_line_strp:
	case DW_FORM_sec_offset:
	case DW_FORM_strp_sup:
	case DW_FORM_GNU_ref_alt:
	case DW_FORM_GNU_strp_alt:
		return e.offset_size;
	}
	return -1;
}

void form_skip(struct bytes *b, uint16_t form, struct encoding e)
{
	for (int hops = 0; form == DW_FORM_indirect && hops < 4; hops++) {
		form = (uint16_t)bytes_uleb(b);
		if (form == DW_FORM_implicit_const) { // it has no value here
			bytes_fail(b);
			return;
		}
	}
	switch (form) {
	case DW_FORM_block1:
		bytes_skip(b, bytes_u8(b));
		return;
	case DW_FORM_block2:
		bytes_skip(b, bytes_u16(b));
		return;
	case DW_FORM_block4:
		bytes_skip(b, bytes_u32(b));
		return;
	case DW_FORM_block:
	case DW_FORM_exprloc:
		bytes_skip(b, bytes_uleb(b));
		return;
	case DW_FORM_string:
		bytes_string(b);
		return;
	case DW_FORM_sdata:
	case DW_FORM_udata:
	case DW_FORM_ref_udata:
	case DW_FORM_strx:
	case DW_FORM_addrx:
	case DW_FORM_loclistx:
	case DW_FORM_rnglistx:
	case DW_FORM_GNU_addr_index:
	case DW_FORM_GNU_str_index:
		bytes_skip_leb(b);
		return;
	}
	int width = form_width(form, e);
	if (width < 0)
		bytes_fail(b); // a form that is not known: nothing behind it can be read
	else
		bytes_skip(b, (unsigned)width);
}

// One way to pass over an entry: as few steps as there are values of unknown length, and one more.
static bool plan_skip(struct abbrevs *t, struct abbrev *abbrev)
{
	struct skip_step step = {0, 0};
	abbrev->first_step = t->steps;
	for (uint32_t i = 0; i <= abbrev->specs; i++) {
		uint16_t form = i < abbrev->specs ? t->spec[abbrev->first_spec + i].form : 0;
		int width = form ? form_width(form, t->encoding) : -1;
		if (width >= 0) {
			step.fixed += (uint32_t)width;
			continue;
		}
		step.form = form;
		if (!step.fixed && !form)
			break;
		if (!make_room((void **)&t->step, &t->steps_room, t->steps, sizeof(*t->step)))
			return false;
		t->step[t->steps++] = step;
		step = (struct skip_step){0, 0};
	}
	abbrev->steps = t->steps - abbrev->first_step;
	return true;
}

static bool read_specs(struct abbrevs *t, struct abbrev *abbrev, struct bytes *b)
{
	abbrev->first_spec = t->specs;
	for (;;) {
		uint64_t name = bytes_uleb(b), form = bytes_uleb(b);
		struct attribute_spec spec = {(uint16_t)name, (uint16_t)form, 0};
		if (form == DW_FORM_implicit_const)
			spec.implicit = bytes_sleb(b);
		if (b->bad || (!name && !form))
			break;
		if (form > 0xFFFF)
			spec.form = 0xFFFF; // none that is known
		if (name > 0xFFFF)
			spec.name = 0;
		if (!make_room((void **)&t->spec, &t->specs_room, t->specs, sizeof(*t->spec)))
			return false;
		t->spec[t->specs++] = spec;
		abbrev->flags &= (uint8_t)~ABBREV_SIBLING_LAST;
		if (spec.name == DW_AT_sibling) {
			abbrev->flags |= ABBREV_SIBLING;
			if (spec.form == DW_FORM_ref4)
				abbrev->flags |= ABBREV_SIBLING_LAST;
		}
		if (spec.name == DW_AT_low_pc || spec.name == DW_AT_ranges)
			abbrev->flags |= ABBREV_CODE;
	}
	abbrev->specs = t->specs - abbrev->first_spec;
	return !b->bad;
}

static int by_code(const void *a, const void *b)
{
	uint64_t x = ((const struct abbrev *)a)->code, y = ((const struct abbrev *)b)->code;
	return (x > y) - (x < y);
}

static bool read_table(struct abbrevs *t, struct bytes *b)
{
	t->dense = true;
	for (uint64_t code; (code = bytes_uleb(b)) != 0;) {
		if (!make_room((void **)&t->entry, &t->entries_room, t->entries, sizeof(*t->entry)))
			return false;
		struct abbrev *abbrev = &t->entry[t->entries];
		uint64_t tag = bytes_uleb(b);
		*abbrev = (struct abbrev){.code = code, .tag = tag < 0xFFFF ? (uint16_t)tag : 0xFFFF};
		abbrev->flags = bytes_u8(b) ? ABBREV_CHILDREN : 0;
		if (!read_specs(t, abbrev, b) || !plan_skip(t, abbrev))
			return false;
		t->dense = t->dense && code == t->entries + 1;
		t->entries++;
	}
	if (!t->dense)
		qsort(t->entry, t->entries, sizeof(*t->entry), by_code);
	return !b->bad;
}

bool abbrevs_load(struct abbrevs *t, struct section *section, uint64_t offset, struct encoding encoding)
{
	if (t->filled && t->offset == offset && !memcmp(&t->encoding, &encoding, sizeof(encoding)))
		return true;
	struct bytes b = section_from(section, offset);
	t->entries = t->specs = t->steps = 0;
	t->offset = offset;
	t->encoding = encoding;
	t->filled = !b.bad && read_table(t, &b);
	return t->filled;
}

void abbrevs_free(struct abbrevs *t)
{
	free(t->entry);
	free(t->spec);
	free(t->step);
	*t = (struct abbrevs){0};
}

const struct abbrev *abbrevs_find_sparse(const struct abbrevs *t, uint64_t code)
{
	struct abbrev key = {.code = code};
	return t->entries ? bsearch(&key, t->entry, t->entries, sizeof(*t->entry), by_code) : NULL;
}
