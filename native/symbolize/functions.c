// functions.c -- the walk over a unit's entries
//
// Invariant: each entry is read at most three times, and the cursor only goes forward: a sibling that lies behind is not followed.
// Why:       gcc says where an entry's sibling is, so what is below functions that cover none of the addresses is jumped over: of a C++
//            program nine bytes of ten. A function inside of another entry is missed so (one in thirty); then everything is walked, for what
//            is not found yet. clang and rustc say no siblings: everything is walked at once. Once more if a function at the address 0 is
//            all that may have an address.
// Proof:     tests/unit/test_symbolize_dwarf.py, tests/unit/test_symbolize_engine.py, tests/fuzz/fuzz_symbolize.c
#include "functions.h"

#include "dwarf.h"
#include "index.h"
#include "ranges.h"

#include <stdlib.h>

#define SCOPES_MOST (1U << 24)

struct walk {
	struct function_search *search;
	struct unit *unit;
	struct abbrevs *abbrevs;
	struct bytes b;
	const uint8_t *start; // of the entries that are loaded
	uint64_t base;	      // where they stand in the unit's file
	bool full, jumped;    // all that may hold a function is entered; something of it was not
	bool from_zero, left_out; // functions at the address 0, where the linker may have put what it took out, count; one did not
	struct index_recording recording;
};

struct entry {
	uint64_t offset;
	const struct abbrev *abbrev;
	uint64_t sibling; // 0: not known
	bool has_low_pc, has_high_pc, high_is_length;
	uint64_t low_pc, high_pc;
	struct value ranges, origin;
	uint32_t call_file, call_line, call_column, call_discriminator;
};

static uint64_t offset_of(const struct walk *w, const uint8_t *at) { return w->base + (uint64_t)(at - w->start); }

// ---- addresses -----------------------------------------------------------------------------------

// What to do with the addresses that an entry covers.
struct cover {
	struct function_search *search;
	struct walk *walk;
	uint32_t scope;
	uint64_t function; // inlined calls concern the addresses of this function only; 0: of any
	bool only_new;	   // addresses that have been found before are left alone
	bool any;
	uint64_t low; // where its first range begins
	struct index_recording *recording; // NULL: of an inlined call
	struct indexed_range range;	   // what is recorded, but for the addresses
};

static uint64_t function_of(const struct function_search *s, uint32_t scope)
{
	return scope == NO_SCOPE ? 0 : s->scope[scope].function;
}

static bool spend(struct walk *w, uint64_t work)
{
	if (!work_spend(w->search->file->work_left, work))
		bytes_fail(&w->b);
	return !w->b.bad;
}

static bool covers(void *context, uint64_t low, uint64_t high)
{
	struct cover *cover = context;
	struct function_search *s = cover->search;
	if (!cover->low)
		cover->low = low;
	if (cover->recording && low < high) {
		cover->range.low = low;
		cover->range.high = high;
		index_record(cover->recording, &cover->range);
	}
	if (!low && !cover->function && !cover->walk->from_zero) {
		cover->walk->left_out |= s->address[0] < high;
		return true;
	}
	uint32_t first = first_not_below(s->address, s->count, low), i = first;
	for (; i < s->count && s->address[i] < high; i++) {
		uint32_t within = s->innermost[i];
		if (cover->function ? function_of(s, within) != cover->function : cover->only_new && within != NO_SCOPE)
			continue;
		s->innermost[i] = cover->scope;
		cover->any = true;
	}
	return spend(cover->walk, i - first);
}

// ---- entries -------------------------------------------------------------------------------------

static void read_attribute(struct walk *w, struct entry *e, uint16_t name, const struct value *value)
{
	switch (name) {
	case DW_AT_sibling: e->sibling = value->number + (value->form == DW_FORM_ref_addr ? 0 : w->unit->offset); break;
	case DW_AT_low_pc: e->has_low_pc = unit_address(w->search->file, w->unit, value, &e->low_pc); break;
	case DW_AT_high_pc:
		e->has_high_pc = true;
		e->high_is_length = !unit_address(w->search->file, w->unit, value, &e->high_pc);
		if (e->high_is_length)
			e->high_pc = value->number;
		break;
	case DW_AT_ranges: e->ranges = *value; break;
	case DW_AT_abstract_origin: e->origin = *value; break;
	case DW_AT_call_file: e->call_file = (uint32_t)value->number; break;
	case DW_AT_call_line: e->call_line = (uint32_t)value->number; break;
	case DW_AT_call_column: e->call_column = (uint32_t)value->number; break;
	case DW_AT_GNU_discriminator: e->call_discriminator = (uint32_t)value->number; break;
	}
}

static void read_entry(struct walk *w, struct entry *e)
{
	spend(w, e->abbrev->specs / SPECS_PER_WORK);
	for (uint32_t i = 0; i < e->abbrev->specs && !w->b.bad; i++) {
		const struct attribute_spec *spec = &w->abbrevs->spec[e->abbrev->first_spec + i];
		struct value value;
		value_read(&w->b, spec, w->unit->encoding, &value);
		read_attribute(w, e, spec->name, &value);
	}
	if (e->high_is_length) // it may stand before low_pc
		e->high_pc += e->low_pc;
}

// Passes over the attributes; tells where the sibling is, if that can be told.
static void pass_entry(struct walk *w, struct entry *e)
{
	if ((e->abbrev->flags & (ABBREV_SIBLING | ABBREV_SIBLING_LAST)) == ABBREV_SIBLING) {
		read_entry(w, e);
		return;
	}
	abbrev_skip(w->abbrevs, e->abbrev, &w->b);
	if (e->abbrev->flags & ABBREV_SIBLING_LAST && !w->b.bad) {
		uint32_t sibling;
		memcpy(&sibling, w->b.at - sizeof(sibling), sizeof(sibling));
		e->sibling = w->unit->offset + sibling;
	}
}

// False: the sibling is not known, or would be behind.
static bool jump(struct walk *w, const struct entry *e)
{
	if (e->sibling < offset_of(w, w->b.at) || e->sibling > offset_of(w, w->b.end))
		return false;
	w->b.at = w->start + (e->sibling - w->base);
	return true;
}

static bool new_scope(struct function_search *s, const struct entry *e, uint32_t outer)
{
	if (s->scopes == s->scopes_room) {
		uint32_t wanted = s->scopes_room ? s->scopes_room * 2 : 256;
		struct scope *grown = s->scopes < SCOPES_MOST ? realloc(s->scope, wanted * sizeof(*grown)) : NULL;
		if (!grown)
			return false;
		s->scope = grown;
		s->scopes_room = wanted;
	}
	struct scope *scope = &s->scope[s->scopes++];
	*scope = (struct scope){.entry = e->offset, .outer = outer, .function = outer == NO_SCOPE ? e->offset : s->scope[outer].function,
				.call_file = e->call_file, .call_line = e->call_line, .call_column = e->call_column,
				.call_discriminator = e->call_discriminator};
	if (outer != NO_SCOPE) // a function's own entry may have a name of its own
		scope->origin = e->origin;
	return true;
}

// Marks the addresses that an entry covers. False: none.
static bool mark(struct walk *w, const struct entry *e, struct cover *cover)
{
	cover->any = false;
	if (e->ranges.form)
		ranges_each(w->search->file, w->unit, &e->ranges, covers, cover);
	else if (e->has_low_pc && e->has_high_pc && e->low_pc < e->high_pc)
		covers(cover, e->low_pc, e->high_pc);
	return cover->any;
}

// A scope for an entry that covers addresses, which become its. False: it covers none, or there is no memory.
static bool open_scope(struct walk *w, const struct entry *e, uint32_t outer, struct cover *cover, bool *good)
{
	struct function_search *s = w->search;
	cover->search = s;
	cover->walk = w;
	cover->scope = s->scopes;
	*good = new_scope(s, e, outer);
	if (!*good)
		return false;
	if (mark(w, e, cover)) {
		s->scope[cover->scope].low = cover->low;
		return true;
	}
	s->scopes--;
	return false;
}

static bool next_entry(struct walk *w, struct entry *e, bool *end_of_children)
{
	*e = (struct entry){.offset = offset_of(w, w->b.at)};
	if (w->b.at >= w->b.end)
		return false;
	spend(w, 1);
	uint64_t code = bytes_uleb(&w->b);
	*end_of_children = code == 0;
	if (!code)
		return !w->b.bad;
	e->abbrev = abbrevs_find(w->abbrevs, code);
	if (!e->abbrev)
		bytes_fail(&w->b);
	return !w->b.bad;
}

// ---- inside a function that covers addresses -----------------------------------------------------

// Where calls inlined into calls stand: the scopes that are open, by the depth of their entry.
struct nest {
	uint32_t *scope, *depth;
	uint32_t open, room;
};

static bool nest_open(struct nest *n, uint32_t scope, uint32_t depth)
{
	if (n->open == n->room) {
		uint32_t wanted = n->room ? n->room * 2 : 64;
		uint32_t *scopes = realloc(n->scope, wanted * sizeof(*scopes));
		if (scopes)
			n->scope = scopes;
		uint32_t *depths = scopes ? realloc(n->depth, wanted * sizeof(*depths)) : NULL;
		if (!depths)
			return false;
		n->depth = depths;
		n->room = wanted;
	}
	n->scope[n->open] = scope;
	n->depth[n->open++] = depth;
	return true;
}

// Functions may be nested in these.
static bool holds_code(uint16_t tag)
{
	return tag == DW_TAG_class_type || tag == DW_TAG_structure_type || tag == DW_TAG_union_type || tag == DW_TAG_namespace ||
	       tag == DW_TAG_module || tag == DW_TAG_subprogram || tag == DW_TAG_lexical_block;
}

// An inlined call. True: what is below it must be looked at.
static bool inlined_call(struct walk *w, struct entry *e, struct nest *nest, uint32_t depth, bool *good)
{
	read_entry(w, e);
	struct cover cover = {.function = w->search->scope[nest->scope[0]].entry};
	if (!open_scope(w, e, nest->scope[nest->open - 1], &cover, good))
		return false;
	if (e->abbrev->flags & ABBREV_CHILDREN)
		*good = nest_open(nest, cover.scope, depth);
	return true;
}

static bool function(struct walk *w, struct entry *e, bool *good);

// All below a function, to its end. False: no memory.
static bool walk_function(struct walk *w, uint32_t function_scope)
{
	struct nest nest = {0};
	bool good = nest_open(&nest, function_scope, 0);
	struct entry e;
	bool end;
	for (uint32_t depth = 1; good && depth && next_entry(w, &e, &end);) {
		if (end) {
			depth--;
			if (nest.open > 1 && nest.depth[nest.open - 1] == depth)
				nest.open--;
			continue;
		}
		bool enter = true;
		if (e.abbrev->tag == DW_TAG_inlined_subroutine) {
			enter = inlined_call(w, &e, &nest, depth, &good);
		} else if (e.abbrev->tag == DW_TAG_subprogram && e.abbrev->flags & ABBREV_CODE) {
			if (function(w, &e, &good))
				continue; // it has read its children
			enter = w->full;
		} else {
			pass_entry(w, &e);
			enter = e.abbrev->tag == DW_TAG_lexical_block || (w->full && holds_code(e.abbrev->tag));
			w->jumped |= !enter && holds_code(e.abbrev->tag);
		}
		if (e.abbrev->flags & ABBREV_CHILDREN && (enter || !jump(w, &e)))
			depth++;
	}
	free(nest.scope);
	free(nest.depth);
	return good;
}

// A function with code. True: it covers addresses, and its children have been read.
static bool function(struct walk *w, struct entry *e, bool *good)
{
	read_entry(w, e);
	struct cover cover = {.only_new = w->full, .recording = w->recording.index ? &w->recording : NULL};
	cover.range.entry = (uint32_t)(e->offset - w->unit->dies);
	if (e->sibling > e->offset && e->sibling <= w->unit->end)
		cover.range.end = (uint32_t)(e->sibling - w->unit->dies);
	if (!open_scope(w, e, NO_SCOPE, &cover, good))
		return false;
	if (e->abbrev->flags & ABBREV_CHILDREN)
		*good = walk_function(w, cover.scope);
	return true;
}

// ---- a unit --------------------------------------------------------------------------------------

static bool walk_unit(struct walk *w)
{
	struct entry e;
	bool end, good = true;
	for (uint32_t depth = 0; good && next_entry(w, &e, &end);) {
		if (end) {
			if (depth <= 1)
				break;
			depth--;
			continue;
		}
		if (e.abbrev->tag == DW_TAG_subprogram && e.abbrev->flags & ABBREV_CODE) {
			if (function(w, &e, &good))
				continue;
		} else {
			pass_entry(w, &e);
		}
		if (!(e.abbrev->flags & ABBREV_CHILDREN))
			continue;
		if (depth > 0 && (!w->full || !holds_code(e.abbrev->tag)) && jump(w, &e))
			w->jumped |= holds_code(e.abbrev->tag);
		else
			depth++;
	}
	return good;
}

static bool all_found(const struct function_search *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->innermost[i] == NO_SCOPE)
			return false;
	return true;
}

static bool load_unit(struct walk *w)
{
	struct function_search *s = w->search;
	if (!bytes_left(&s->loaded))
		s->loaded = unit_load(s->file, w->unit);
	w->b = s->loaded;
	w->start = w->b.at;
	w->base = w->unit->dies;
	return bytes_left(&w->b) > 0;
}

static bool walk_recorded(struct walk *w, bool second)
{
	index_begin(&w->recording, w->search->file, w->unit, second);
	w->full = second;
	bool good = load_unit(w) && walk_unit(w);
	if (good && !w->b.bad && *w->search->file->work_left)
		index_keep(&w->recording, w->unit, w->jumped);
	else
		index_drop(&w->recording, w->unit);
	return good;
}

// ---- by index ------------------------------------------------------------------------------------

static bool wants(const struct function_search *s, const struct indexed_range *range, bool only_new)
{
	for (uint32_t i = first_not_below(s->address, s->count, range->low); i < s->count && s->address[i] < range->high; i++)
		if (!only_new || s->innermost[i] == NO_SCOPE)
			return true;
	return false;
}

// Only the entry and what is below it, if it is known where that ends and the unit is not in memory anyway.
static bool load_function(struct walk *w, const struct indexed_range *range)
{
	struct function_search *s = w->search;
	if (!range->end || s->file->section[SECTION_INFO].memory || bytes_left(&s->loaded)) {
		if (!load_unit(w))
			return false;
		bytes_skip(&w->b, range->entry);
		return !w->b.bad;
	}
	w->base = w->unit->dies + range->entry;
	w->b = unit_load_part(s->file, w->base, range->end - range->entry);
	w->start = w->b.at;
	return bytes_left(&w->b) > 0;
}

// As the walk that recorded it went, but from one wanted function to the next.
static bool walk_indexed(struct walk *w, uint32_t from, uint32_t to)
{
	bool good = true;
	uint64_t passed = 0;
	for (uint32_t i = from; good && i < to; i++) {
		const struct indexed_range *range = &w->unit->functions->range[i];
		uint64_t offset = w->unit->dies + range->entry;
		if (!range->low && !w->from_zero) {
			w->left_out |= w->search->address[0] < range->high;
			continue;
		}
		if (offset < passed || !wants(w->search, range, w->full))
			continue;
		struct entry e;
		bool end;
		if (!load_function(w, range) || !next_entry(w, &e, &end) || end || e.abbrev->tag != DW_TAG_subprogram)
			continue;
		function(w, &e, &good);
		passed = offset_of(w, w->b.at);
	}
	return good;
}

bool functions_find(struct function_search *s)
{
	struct unit *unit = s->unit;
	struct debug_file *file = s->file;
	if (!unit->usable || !unit_abbrevs(file, unit))
		return false;
	struct walk w = {.search = s, .unit = unit, .abbrevs = &file->abbrevs};
	const struct function_index *index = unit->functions;
	if (!(index ? walk_indexed(&w, 0, index->first_count) : walk_recorded(&w, false)))
		return false;
	index = unit->functions;
	w.full = true;
	if ((index ? index->jumped : w.jumped) && !all_found(s) &&
	    !(index && index->full ? walk_indexed(&w, index->first_count, index->count) : walk_recorded(&w, true)))
		return false;
	if (!w.left_out || all_found(s))
		return true;
	w.from_zero = true;
	index = unit->functions;
	return index ? walk_indexed(&w, 0, index->count) : load_unit(&w) && walk_unit(&w);
}
