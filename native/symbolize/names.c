// names.c -- following an entry to what bears its name
//
// Invariant: at most HOPS entries are read for one name, each of at most PART_MOST bytes.
// Why:       a name is asked for once per function, not once per address: C++ names are long, and many calls lie in few functions.
// Proof:     tests/unit/test_symbolize_dwarf.py, tests/unit/test_symbolize_engine.py, tests/fuzz/fuzz_symbolize.c
#include "names.h"

#include "dwarf.h"

#include <stdlib.h>

#define HOPS 16
#define BYTES_MOST (1U << 27) // of all names; those found later have none
#define PART_FIRST 1024U // of an entry in another unit
#define PART_MOST (64U << 10)

// ---- one entry -----------------------------------------------------------------------------------

struct referred {
	struct debug_file *file; // NULL: nowhere
	uint64_t entry;
};

struct described {
	char *name, *linkage_name;
	bool plain; // the name is of a language whose names linkers see unchanged
	struct referred next;
};

static struct referred refer(struct debug_file *file, const struct unit *unit, const struct value *value)
{
	switch (value->form) {
	case DW_FORM_ref1:
	case DW_FORM_ref2:
	case DW_FORM_ref4:
	case DW_FORM_ref8:
	case DW_FORM_ref_udata:
		return (struct referred){file, unit->offset + value->number};
	case DW_FORM_ref_addr:
		return (struct referred){file, value->number};
	case DW_FORM_GNU_ref_alt:
	case DW_FORM_ref_sup4:
	case DW_FORM_ref_sup8:
		return (struct referred){file->alternate, value->number};
	}
	return (struct referred){NULL, 0};
}

static void describe(struct debug_file *file, struct unit *unit, const struct abbrev *abbrev, struct bytes *b, struct described *out)
{
	for (uint32_t i = 0; i < abbrev->specs && !b->bad; i++) {
		const struct attribute_spec *spec = &file->abbrevs.spec[abbrev->first_spec + i];
		struct value value;
		value_read(b, spec, unit->encoding, &value);
		if (b->bad)
			return;
		switch (spec->name) {
		case DW_AT_name:
			if (!out->name) {
				out->name = unit_string(file, unit, &value);
				out->plain = unit->plain_names;
			}
			break;
		case DW_AT_linkage_name:
		case DW_AT_MIPS_linkage_name:
			if (!out->linkage_name)
				out->linkage_name = unit_string(file, unit, &value);
			break;
		case DW_AT_abstract_origin:
		case DW_AT_specification:
			out->next = refer(file, unit, &value);
			break;
		}
	}
}

// The entry as a cursor: in the unit that is loaded, or read by itself.
static struct bytes entry_bytes(struct debug_file *file, const struct unit *unit, uint64_t entry, const struct unit *loaded_unit,
				struct bytes loaded, uint8_t *buffer, size_t size)
{
	if (unit == loaded_unit && bytes_left(&loaded)) {
		loaded.at += entry - unit->dies <= bytes_left(&loaded) ? entry - unit->dies : bytes_left(&loaded);
		return loaded;
	}
	if (size > unit->end - entry)
		size = (size_t)(unit->end - entry);
	return section_part(&file->section[SECTION_INFO], entry, size, buffer);
}

static bool describe_at(struct referred at, const struct unit *loaded_unit, struct bytes loaded, struct described *out)
{
	struct unit *unit = units_at(at.file, at.entry);
	if (!unit || !unit_read_root(at.file, unit) ||
	    !unit_abbrevs(at.file, unit))
		return false;
	uint8_t *buffer = NULL;
	bool good = false;
	for (size_t size = PART_FIRST; size <= PART_MOST && !good; size *= 8) {
		uint8_t *grown = realloc(buffer, size);
		if (!grown)
			break;
		buffer = grown;
		struct bytes b = entry_bytes(at.file, unit, at.entry, loaded_unit, loaded, buffer, size);
		const struct abbrev *abbrev = abbrevs_find(&at.file->abbrevs, bytes_uleb(&b));
		if (!abbrev || !work_spend(at.file->work_left, 1 + abbrev->specs / SPECS_PER_WORK))
			break;
		describe(at.file, unit, abbrev, &b, out);
		good = !b.bad; // else it is longer than what was read
	}
	free(buffer);
	return good;
}

// ---- names that were found -----------------------------------------------------------------------

static uint32_t slot_of(const struct names *n, const struct debug_file *file, uint64_t entry)
{
	uint64_t hash = (entry ^ (uint64_t)(uintptr_t)file) * 0x9E3779B97F4A7C15ULL;
	uint32_t slot = (uint32_t)(hash >> 32) & (n->room - 1);
	while (n->slot[slot].file && (n->slot[slot].file != file || n->slot[slot].entry != entry))
		slot = (slot + 1) & (n->room - 1);
	return slot;
}

static bool make_room(struct names *n)
{
	if (n->used * 2 < n->room)
		return true;
	struct names grown = {.room = n->room ? n->room * 2 : 256, .used = n->used, .bytes = n->bytes};
	grown.slot = calloc(grown.room, sizeof(*grown.slot));
	if (!grown.slot)
		return false;
	for (uint32_t i = 0; i < n->room; i++)
		if (n->slot[i].file)
			grown.slot[slot_of(&grown, n->slot[i].file, n->slot[i].entry)] = n->slot[i];
	free(n->slot);
	*n = grown;
	return true;
}

static char *take(char **from)
{
	char *text = *from;
	*from = NULL;
	return text;
}

struct name *names_find(struct names *n, struct debug_file *file, uint64_t entry, struct unit *unit, struct bytes loaded)
{
	if (!make_room(n))
		return NULL;
	struct name *found = &n->slot[slot_of(n, file, entry)];
	if (found->file || n->bytes >= BYTES_MOST)
		return found->file ? found : NULL;
	*found = (struct name){.file = file, .entry = entry};
	n->used++;
	struct described all = {.next = {file, entry}};
	for (int hops = 0; hops < HOPS && all.next.file && !all.linkage_name; hops++) {
		struct referred at = all.next;
		all.next = (struct referred){NULL, 0};
		if (!describe_at(at, unit, loaded, &all))
			break;
	}
	if (!*file->work_left) { // another lookup may have more left
		found->file = NULL;
		n->used--;
		free(all.name);
		free(all.linkage_name);
		return NULL;
	}
	found->linkage = all.linkage_name || all.plain;
	found->text = all.linkage_name ? take(&all.linkage_name) : take(&all.name);
	n->bytes += found->text ? strlen(found->text) + 1 : 0;
	free(all.name);
	free(all.linkage_name);
	return found;
}

struct name *names_of_origin(struct names *n, struct debug_file *file, const struct value *origin, struct unit *unit, struct bytes loaded)
{
	struct referred at = refer(file, unit, origin);
	return at.file ? names_find(n, at.file, at.entry, unit, loaded) : NULL;
}

void names_make_room(struct names *n)
{
	if (n->bytes > BYTES_MOST / 2)
		names_free(n);
}

void names_free(struct names *n)
{
	for (uint32_t i = 0; i < n->room; i++)
		free(n->slot[i].text);
	free(n->slot);
	*n = (struct names){0};
}
