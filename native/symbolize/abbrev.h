// abbrev.h -- abbreviations: what the entries of a unit look like
#ifndef MEMLEAK_SYMBOLIZE_ABBREV_H
#define MEMLEAK_SYMBOLIZE_ABBREV_H

#include "section.h"

// What the width of a form depends on.
struct encoding {
	uint8_t version, address_size, offset_size;
};

struct attribute_spec {
	uint16_t name, form;
	int64_t implicit; // of DW_FORM_implicit_const
};

// So many bytes, and then something whose length must be read.
struct skip_step {
	uint32_t fixed;
	uint16_t form; // 0: nothing follows
};

enum abbrev_flag {
	ABBREV_CHILDREN = 1,
	ABBREV_CODE = 2,	 // has low_pc or ranges: may cover addresses
	ABBREV_SIBLING_LAST = 4, // its last four bytes are the offset of its sibling
	ABBREV_SIBLING = 8,	 // it has one somewhere
};

struct abbrev {
	uint64_t code;
	uint16_t tag;
	uint8_t flags; // enum abbrev_flag
	uint32_t first_spec, specs, first_step, steps;
};

struct abbrevs {
	struct abbrev *entry;
	struct attribute_spec *spec;
	struct skip_step *step;
	uint32_t entries, specs, steps;
	uint32_t entries_room, specs_room, steps_room;
	bool dense; // entry i has code i + 1
	bool filled;
	uint64_t offset; // in .debug_abbrev
	struct encoding encoding;
};

// Fills a table, unless it is that one already. False: it cannot be read, or there is no memory.
bool abbrevs_load(struct abbrevs *table, struct section *section, uint64_t offset, struct encoding encoding);
void abbrevs_free(struct abbrevs *table);

const struct abbrev *abbrevs_find_sparse(const struct abbrevs *table, uint64_t code);

static inline const struct abbrev *abbrevs_find(const struct abbrevs *table, uint64_t code)
{
	if (likely(table->dense))
		return code - 1 < table->entries ? &table->entry[code - 1] : NULL;
	return abbrevs_find_sparse(table, code);
}

// The width of a form; -1: it must be read.
int form_width(uint16_t form, struct encoding encoding);

// Passes over a value whose length must be read.
void form_skip(struct bytes *b, uint16_t form, struct encoding encoding);

// Passes over all attributes of an entry.
static inline void abbrev_skip(const struct abbrevs *table, const struct abbrev *abbrev, struct bytes *b)
{
	for (uint32_t i = 0; i < abbrev->steps; i++) {
		const struct skip_step *step = &table->step[abbrev->first_step + i];
		bytes_skip(b, step->fixed);
		if (step->form)
			form_skip(b, step->form, table->encoding);
	}
}

#endif
