// index.h -- where the functions of a unit and the sequences of its line program are, once they were read
#ifndef MEMLEAK_SYMBOLIZE_INDEX_H
#define MEMLEAK_SYMBOLIZE_INDEX_H

#include "unit.h"

// A range of addresses of a function.
struct indexed_range {
	uint64_t low, high;
	uint32_t entry; // from the unit's first
	uint32_t end;	// what follows its children; 0: not known
};

// In order of entry, and so twice: what a walk from sibling to sibling meets, and then what only a full one does.
struct function_index {
	uint32_t count, room;
	uint32_t first_count; // of the first kind
	bool jumped;	      // the first walk passed over something that may hold functions
	bool full;	      // the second was done
	struct indexed_range range[]; // one allocation: whoever has the unit frees it
};

// A walk that is being recorded into an index.
struct index_recording {
	struct function_index *index; // NULL: there is no memory, or it is not wanted
	uint64_t *left;		      // bytes that it may still grow by
	bool second;
	uint32_t met; // of the second walk: ranges of the first one that it has passed
};

bool index_begin(struct index_recording *recording, struct debug_file *file, struct unit *unit, bool second);
void index_record(struct index_recording *recording, const struct indexed_range *range);

// The walk has come to its end: the unit has the index. Else it is thrown away, and of a second walk what it added.
void index_keep(struct index_recording *recording, struct unit *unit, bool jumped);
void index_drop(struct index_recording *recording, struct unit *unit);

struct row { // of a line table
	uint64_t address;
	uint32_t file, line, column, discriminator;
};

// A part of a sequence of a line program, begun by a row: how to go on behind it, and which addresses that covers.
struct indexed_sequence {
	struct row row;
	uint64_t high;
	uint32_t offset; // of the opcode behind the row, from the program's first
	bool from_zero;	 // the sequence begins at the address 0
};

struct sequence_index {
	uint32_t count, room;
	struct indexed_sequence sequence[]; // one allocation: whoever has the unit frees it
};

// Appends to an index that grows; NULL to begin with. False: no memory, or no more of what is `left`; then it is freed, and NULL.
bool sequences_record(struct sequence_index **index, uint64_t *left, const struct indexed_sequence *sequence);
void sequences_free(struct sequence_index *index, uint64_t *left);

// How many units of a file have one.
uint32_t index_units(const struct debug_file *file);

// All indices of a file as bytes, malloc()ed; NULL: there are none, or no memory. And the way back: what does not fit the file is left out.
uint8_t *index_export(const struct debug_file *file, uint64_t *bytes);
void index_import(struct debug_file *file, struct bytes bytes);

#endif
