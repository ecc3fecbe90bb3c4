// nearest.c -- the symbol before an address, by the rule of the GNU tools
//
// Invariant: addresses are in ascending order, so a symbol is the nearest to the first address that is not below it, if to any that is
//            asked for between it and the next symbol.
// Why:       one pass over the table and no order of it: some hundred addresses are asked for, and there are 10^6 symbols.
// Proof:     tests/unit/test_symbolize_nearest.py, beside the same in Python
#include "mlsym.h"

#include "symboltable.h"

#include <stdlib.h>

#define SYMBOLS_MOST 8000000U

struct search {
	const uint64_t *address;
	uint32_t count;
	struct mlsym_nearest *found;
	uint16_t section;
	uint64_t lowest; // address of the section
	uint32_t file;	 // name of the last STT_FILE
	enum { NO_FILE, FILE_FIRST, FILE_BEHIND } files; // FILE_BEHIND: one stands behind another symbol
	bool symbol_seen;
};

// Objects, sections, common and thread-local data are no code. (The numbers are BFD's: unknown ones may be.)
static bool may_be_code(uint8_t kind) { return !(kind == STT_OBJECT || kind == STT_SECTION || (kind >= 5 && kind <= 6) || kind == 8 || kind == 9); }

// Of the annobin plug-in.
static bool is_mark(const struct raw_symbol *raw)
{
	return raw->bind == STB_LOCAL && raw->kind == STT_NOTYPE && !raw->size && raw->visibility == STV_HIDDEN;
}

static bool consider(void *context, const struct raw_symbol *raw)
{
	struct search *s = context;
	if (raw->kind == STT_FILE) {
		s->file = raw->name;
		s->files = s->files == FILE_BEHIND || s->symbol_seen ? FILE_BEHIND : FILE_FIRST;
		return true;
	}
	s->symbol_seen = true;
	if (raw->section != s->section || raw->value < s->lowest || !may_be_code(raw->kind) || is_mark(raw))
		return true;
	uint32_t i = first_not_below(s->address, s->count, raw->value);
	if (i == s->count)
		return true;
	struct mlsym_nearest *found = &s->found[i];
	uint64_t size = raw->size ? raw->size : 1;
	if (found->number && (found->start > raw->value || (found->start == raw->value && found->size >= size)))
		return true;
	bool has_file = s->files == FILE_FIRST || (s->files == FILE_BEHIND && raw->bind == STB_LOCAL);
	*found = (struct mlsym_nearest){raw->value, size, raw->number, raw->name, has_file ? s->file : 0, has_file};
	return true;
}

int mlsym_find_nearest(const struct mlsym_section *table, int narrow, uint32_t section, uint64_t lowest, const uint64_t *addresses,
		       uint32_t count, struct mlsym_nearest *found)
{
	struct section symbols = {.fd = table->fd, .offset = table->offset, .size = table->size, .memory = table->memory};
	struct search s = {.address = addresses, .count = count, .found = found, .section = (uint16_t)section, .lowest = lowest};
	memset(found, 0, count * sizeof(*found));
	if (section > UINT16_MAX || !symbols_each(&symbols, narrow, SYMBOLS_MOST, consider, &s))
		return -1;
	for (uint32_t i = 1; i < count; i++)
		if (!found[i].number)
			found[i] = found[i - 1];
	return 0;
}
