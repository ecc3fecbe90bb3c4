// unit.h -- the units of one file of debug information
//
// A file is a program or library with its DWARF, its separate debug file, a .dwo, or what dwz took out of several (an alternate
// file). Which file that is, is found elsewhere.
#ifndef MEMLEAK_SYMBOLIZE_UNIT_H
#define MEMLEAK_SYMBOLIZE_UNIT_H

#include "abbrev.h"

struct debug_file;
struct function_index;
struct sequence_index;

struct unit {
	uint64_t offset, dies, end; // in .debug_info: its header, its first entry, what follows it
	uint64_t abbrev_offset, dwo_id;
	struct encoding encoding;
	uint8_t type;
	bool usable;	// of a version that is known
	bool plain_names; // of a language whose names linkers see unchanged
	bool root_read, has_low_pc, has_high_pc, has_ranges, has_lines, ranges_indexed;
	uint64_t low_pc, high_pc, ranges, lines; // of the root, as read
	uint64_t str_offsets_base, addr_base, rnglists_base, ranges_base;
	uint64_t packaged_str_offsets, packaged_rnglists; // where its parts of these sections begin: in a package they are many
	char *name, *comp_dir, *dwo_name;
	struct debug_file *split; // where the rest of a skeleton is, and which unit of it; NULL: not attached
	struct unit *split_unit;
	struct unit *skeleton;	  // of a unit in a .dwo: the one that stands for it
	struct function_index *functions; // once they were looked for; one allocation
	struct sequence_index *sequences; // the same
};

struct debug_file {
	struct section section[SECTION_COUNT];
	struct unit *unit;
	uint32_t units, units_room;
	bool units_listed;
	bool begins_in_file_0; // see mlsym_begin_in_file_0()
	struct debug_file *alternate; // dwz; NULL: not there
	struct debug_file *skeleton_file; // of a .dwo: where addresses and address ranges stand
	struct abbrevs abbrevs; // of the unit read last
	uint8_t *buffer;	// bytes of a unit
	size_t buffer_room;
	uint64_t *work_left; // of a lookup: what may still be read, in entries
	uint64_t *index_left; // of a handle: bytes that indexes of units may still take
};

#define SPECS_PER_WORK 8U // attributes that are read in the time of an entry

// Takes from it. False: it is used up.
static inline bool work_spend(uint64_t *left, uint64_t work)
{
	bool enough = *left >= work;
	*left = enough ? *left - work : 0;
	return enough && *left;
}

// A value of an attribute. What it means is told by its form.
struct value {
	uint16_t form;
	uint64_t number;
	const char *text; // of DW_FORM_string: in the bytes that are read
};

void value_read(struct bytes *b, const struct attribute_spec *spec, struct encoding encoding, struct value *out);

// Lists all units by hopping from header to header. False: there are none.
bool units_list(struct debug_file *file);

// The unit whose entries an offset of .debug_info is among, and that whose header is there; NULL if there is none.
struct unit *units_at(struct debug_file *file, uint64_t offset);
struct unit *units_with_header(struct debug_file *file, uint64_t offset);

// Reads what the first entry says of the whole unit, once. False: it cannot be read.
bool unit_read_root(struct debug_file *file, struct unit *unit);

// Fills the file's table of abbreviations with those of a unit.
bool unit_abbrevs(struct debug_file *file, const struct unit *unit);

// All bytes of a unit's entries, until the next one is loaded; empty if they cannot be read.
struct bytes unit_load(struct debug_file *file, struct unit *unit);
struct bytes unit_load_part(struct debug_file *file, uint64_t offset, uint64_t size);

// What an attribute of the unit says: the address, and the string, malloc()ed; NULL and false if it is not there.
bool unit_address(struct debug_file *file, const struct unit *unit, const struct value *value, uint64_t *out);
char *unit_string(struct debug_file *file, const struct unit *unit, const struct value *value);

void debug_file_close(struct debug_file *file);

#endif
