// symbols.c -- which function holds an address, by symbol tables alone
//
// Invariant: symbols stand in ascending order of where they start; `highest` is the highest end of a sized one up to there, so that a walk
//            back for an enclosing function knows when to stop.
// Why:       a large program has 10^6 symbols: they are read once, in parts, and a name only when its symbol was hit.
// Proof:     tests/unit/test_symbolize_symbols.py, beside the table in Python that does the same
#include "mlsym.h"

#include "symboltable.h"

#include <stdlib.h>

#define SYMBOLS_MOST 4000000U // of a table
#define NAME_FIRST 256U
#define NAME_MOST (16U << 10)
#define TABLES_MOST 255U
#define LOOK_BACK 1024U // only a hostile table has more: functions within functions, names of one address
#define ALIASES 256U
#define NONE 0xFFFFFFFF

enum flag { SIZED = 1, GLOBAL = 2, TYPED = 4, OLD = 8 }; // OLD: a version kept for programs linked long ago

struct symbol {
	uint64_t start, end;
	uint32_t name, file; // in the table's strings; file 0: not known
	uint8_t table, flags;
};

struct mlsym_symbols {
	struct symbol *symbol;
	uint64_t *highest;
	struct section strings[TABLES_MOST];
	uint32_t count, room, tables;
	bool sorted;
};

// ---- reading a table -----------------------------------------------------------------------------

struct reading {
	mlsym_symbols *into;
	const struct mlsym_symbol_table *table;
	struct section versions;
	uint32_t file; // the last STT_FILE
	enum { NOTHING_SEEN, SYMBOL_SEEN, FILE_AFTER_SYMBOL } state;
};

static bool add_symbol(mlsym_symbols *s, const struct symbol *symbol)
{
	if (s->count == s->room) {
		uint32_t wanted = s->room ? s->room * 2 : 4096;
		struct symbol *grown = realloc(s->symbol, wanted * sizeof(*grown));
		if (!grown)
			return false;
		s->symbol = grown;
		s->room = wanted;
	}
	s->symbol[s->count++] = *symbol;
	return true;
}

static bool is_old(struct reading *r, uint32_t number)
{
	struct bytes b = section_from(&r->versions, 2 * (uint64_t)number);
	return bytes_u16(&b) >> 15;
}

static uint64_t plus(uint64_t a, uint64_t b) { return a + b < a ? UINT64_MAX : a + b; }

// A linker puts the files' local symbols first, each group behind its STT_FILE. What is global comes after all of them: then the last file
// says nothing of it, unless there is one group only. (So does BFD.)
static uint32_t file_of(const struct reading *r, bool global) { return global && r->state == FILE_AFTER_SYMBOL ? 0 : r->file; }

static bool take_symbol(void *context, const struct raw_symbol *raw)
{
	struct reading *r = context;
	uint8_t kind = raw->kind;
	bool global = raw->bind != STB_LOCAL;
	if (kind == STT_FILE) {
		r->file = raw->name;
		if (r->state == SYMBOL_SEEN)
			r->state = FILE_AFTER_SYMBOL;
		return true;
	}
	if (r->state == NOTHING_SEEN)
		r->state = SYMBOL_SEEN;
	if (!raw->section || (kind != STT_NOTYPE && kind != STT_FUNC && kind != STT_GNU_IFUNC))
		return true;
	uint64_t limit = raw->section < r->table->limits ? r->table->limit[raw->section] : 0;
	if (!limit && (kind == STT_NOTYPE || !raw->size))
		return true; // a bare label outside of code is data (_end, _edata)
	struct symbol symbol = {.start = raw->value, .name = raw->name, .table = (uint8_t)(r->into->tables - 1)};
	symbol.end = raw->size ? plus(raw->value, raw->size) : limit;
	symbol.file = file_of(r, global);
	symbol.flags = (uint8_t)((raw->size ? SIZED : 0) | (global ? GLOBAL : 0) | (kind != STT_NOTYPE ? TYPED : 0) |
				 (is_old(r, raw->number) ? OLD : 0));
	return add_symbol(r->into, &symbol);
}

static struct section as_section(const struct mlsym_section *from)
{
	return (struct section){.fd = from->fd, .offset = from->offset, .size = from->size, .memory = from->memory};
}

int mlsym_symbols_add(mlsym_symbols *s, const struct mlsym_symbol_table *table)
{
	if (s->tables == TABLES_MOST)
		return -1;
	s->strings[s->tables++] = as_section(&table->strings);
	struct reading r = {.into = s, .table = table, .versions = as_section(&table->versions)};
	struct section symbols = as_section(&table->symbols);
	bool good = symbols_each(&symbols, table->narrow, SYMBOLS_MOST, take_symbol, &r);
	section_close(&r.versions);
	s->sorted = false;
	return good ? 0 : -1;
}

// ---- in order ------------------------------------------------------------------------------------

#define DIGIT_BITS 11
#define DIGITS (1U << DIGIT_BITS)

// By one digit of where they start; those that are alike keep their order.
static void sort_by_digit(const struct symbol *from, struct symbol *to, uint32_t count, unsigned shift)
{
	uint32_t first[DIGITS + 1] = {0};
	for (uint32_t i = 0; i < count; i++)
		first[(from[i].start >> shift & (DIGITS - 1)) + 1]++;
	for (uint32_t i = 0; i < DIGITS; i++)
		first[i + 1] += first[i];
	for (uint32_t i = 0; i < count; i++)
		to[first[from[i].start >> shift & (DIGITS - 1)]++] = from[i];
}

static bool sort_symbols(mlsym_symbols *s)
{
	uint64_t differ = 0;
	for (uint32_t i = 1; i < s->count; i++)
		differ |= s->symbol[i].start ^ s->symbol[0].start;
	struct symbol *other = malloc(((size_t)s->count + 1) * sizeof(*other));
	uint64_t *highest = realloc(s->highest, ((size_t)s->count + 1) * sizeof(*highest));
	if (highest)
		s->highest = highest;
	if (!other || !highest) {
		free(other);
		return false;
	}
	for (unsigned shift = 0; shift < 64; shift += DIGIT_BITS) {
		if (!(differ >> shift & (DIGITS - 1)))
			continue;
		sort_by_digit(s->symbol, other, s->count, shift);
		struct symbol *sorted = other;
		other = s->symbol;
		s->symbol = sorted;
	}
	s->room = s->count; // the larger array may have been the other one
	free(other);
	uint64_t high = 0;
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->symbol[i].flags & SIZED && s->symbol[i].end > high)
			high = s->symbol[i].end;
		highest[i] = high;
	}
	return s->sorted = true;
}

// ---- names ---------------------------------------------------------------------------------------

struct answer {
	struct mlsym_names *names;
	uint64_t symbols_room, text_room;
	bool failed;
};

struct candidate {
	uint32_t name, file, bytes; // in the answer's text
	uint8_t flags;
	uint32_t underscores;
};

static bool text_room(struct answer *a, uint64_t bytes)
{
	uint64_t wanted = a->names->text_bytes + bytes;
	if (wanted > a->text_room) {
		uint64_t larger = a->text_room ? a->text_room * 2 : 4096;
		while (larger < wanted)
			larger *= 2;
		char *grown = wanted <= UINT32_MAX ? realloc(a->names->text, larger) : NULL;
		if (!grown) {
			a->failed = true;
			return false;
		}
		a->names->text = grown;
		a->text_room = larger;
	}
	return true;
}

// Appends a string of a table, cut after NAME_MOST bytes; its offset, 0 for none or an empty one.
static uint32_t keep_name(struct answer *a, const struct section *strings, uint32_t offset)
{
	uint8_t buffer[NAME_MOST];
	size_t length = 0;
	struct bytes b = {0};
	for (size_t size = NAME_FIRST; size <= NAME_MOST; size = size < NAME_MOST ? NAME_MOST : NAME_MOST + 1) {
		b = section_part(strings, offset, size, buffer);
		length = bytes_left(&b) ? strnlen((const char *)b.at, bytes_left(&b)) : 0;
		if (length < size)
			break;
	}
	if (!length || !text_room(a, length + 1))
		return 0;
	uint32_t at = (uint32_t)a->names->text_bytes;
	memcpy(a->names->text + at, b.at, length);
	a->names->text[at + length] = 0;
	a->names->text_bytes += length + 1;
	return at;
}

// "memcpy@@GLIBC_2.14" loses its version; one "@" is that of an old one.
static void take_version(struct candidate *c, char *name)
{
	char *at = *name ? strchr(name + 1, '@') : NULL;
	if (!at)
		return;
	if (at[1] != '@')
		c->flags |= OLD;
	*at = 0;
}

static bool is_mapping_label(const char *name) { return *name == '$' || (name[0] == '.' && name[1] == 'L'); }

static bool make_candidate(struct answer *a, const mlsym_symbols *s, uint32_t index, struct candidate *out)
{
	const struct symbol *symbol = &s->symbol[index];
	const struct section *strings = &s->strings[symbol->table];
	*out = (struct candidate){.name = keep_name(a, strings, symbol->name), .flags = symbol->flags};
	if (!out->name)
		return false;
	char *name = a->names->text + out->name;
	take_version(out, name);
	if (!*name || (!(symbol->flags & TYPED) && is_mapping_label(name)))
		return false;
	out->bytes = (uint32_t)strlen(name);
	if (strncmp(name, "_Z", 2) != 0 && strncmp(name, "_R", 2) != 0)
		out->underscores = (uint32_t)strspn(name, "_");
	if (symbol->file)
		out->file = keep_name(a, strings, symbol->file);
	return true;
}

// One that programs can link to now first, then a global one, a function, the plainer, the shorter, and by alphabet.
static int compare(const struct answer *a, const struct candidate *x, const struct candidate *y)
{
	int order[] = {
	    (x->flags & OLD) - (y->flags & OLD),
	    (y->flags & GLOBAL) - (x->flags & GLOBAL),
	    (y->flags & TYPED) - (x->flags & TYPED),
	    (x->underscores > y->underscores) - (x->underscores < y->underscores),
	    (x->bytes > y->bytes) - (x->bytes < y->bytes),
	};
	for (unsigned i = 0; i < sizeof(order) / sizeof(*order); i++)
		if (order[i])
			return order[i];
	return strcmp(a->names->text + x->name, a->names->text + y->name);
}

static bool give(struct answer *a, uint32_t address, const struct candidate *c)
{
	struct mlsym_names *names = a->names;
	if (names->count == a->symbols_room) {
		uint64_t wanted = a->symbols_room ? a->symbols_room * 2 : 256;
		struct mlsym_symbol *grown = realloc(names->symbols, wanted * sizeof(*grown));
		if (!grown)
			return !(a->failed = true);
		names->symbols = grown;
		a->symbols_room = wanted;
	}
	names->symbols[names->count++] = (struct mlsym_symbol){address, c->name, c->file};
	return true;
}

// The names of the symbols that start where one does and cover an address; it is the last of them. False: there are none.
static bool names_at(const mlsym_symbols *s, uint32_t last, uint64_t address, bool sized, struct answer *a, uint32_t asked)
{
	struct candidate found[ALIASES];
	uint32_t count = 0;
	for (uint32_t i = last, back = 0; back < ALIASES && s->symbol[i].start == s->symbol[last].start; i--, back++) {
		const struct symbol *symbol = &s->symbol[i];
		struct candidate c;
		if (!!(symbol->flags & SIZED) == sized && address < symbol->end && make_candidate(a, s, i, &c)) {
			uint32_t at = count;
			while (at > 0 && compare(a, &c, &found[at - 1]) < 0)
				at--;
			if (at == 0 || compare(a, &c, &found[at - 1]) != 0) {
				memmove(&found[at + 1], &found[at], (count++ - at) * sizeof(*found));
				found[at] = c;
			}
		}
		if (!i)
			break;
	}
	for (uint32_t i = 0; i < count; i++)
		give(a, asked, &found[i]);
	return count > 0;
}

// How many symbols start at or before an address, or before it.
static uint32_t starting(const mlsym_symbols *s, uint64_t address, bool before)
{
	uint32_t low = 0, high = s->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (s->symbol[middle].start < address || (!before && s->symbol[middle].start == address))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void look_up(const mlsym_symbols *s, uint64_t address, struct answer *a, uint32_t asked)
{
	uint32_t behind = starting(s, address, false); // `behind` - 1 is the nearest
	uint32_t floor = behind > LOOK_BACK ? behind - LOOK_BACK : 0;
	for (uint32_t i = behind; i > floor && s->highest[i - 1] > address; i--) {
		const struct symbol *symbol = &s->symbol[i - 1];
		if (!(symbol->flags & SIZED) || symbol->end <= address)
			continue;
		if (names_at(s, i - 1, address, true, a, asked))
			return;
		i = starting(s, symbol->start, true) + 1; // none of them has a name
	}
	if (!behind)
		return;
	const struct symbol *nearest = &s->symbol[behind - 1];
	if (nearest->start < s->highest[behind - 1] && s->highest[behind - 1] <= address)
		return; // it lies in a function that has ended
	names_at(s, behind - 1, address, false, a, asked);
}

// ---- from outside --------------------------------------------------------------------------------

mlsym_symbols *mlsym_symbols_open(void) { return calloc(1, sizeof(mlsym_symbols)); }

uint64_t mlsym_symbols_count(const mlsym_symbols *s) { return s->count; }

struct mlsym_names *mlsym_symbols_lookup(mlsym_symbols *s, const int *descriptors, const uint64_t *addresses, uint32_t count)
{
	struct answer a = {.names = calloc(1, sizeof(*a.names))};
	for (uint32_t i = 0; i < s->tables; i++)
		s->strings[i].fd = descriptors[i];
	if (!a.names || (!s->sorted && !sort_symbols(s)) || !text_room(&a, 1)) {
		mlsym_names_free(a.names);
		return NULL;
	}
	a.names->text[a.names->text_bytes++] = 0; // 0 is no text
	for (uint32_t i = 0; i < count && !a.failed; i++)
		look_up(s, addresses[i], &a, i);
	return a.names;
}

void mlsym_names_free(struct mlsym_names *names)
{
	if (!names)
		return;
	free(names->symbols);
	free(names->text);
	free(names);
}

void mlsym_symbols_close(mlsym_symbols *s)
{
	if (!s)
		return;
	free(s->symbol);
	free(s->highest);
	free(s);
}
