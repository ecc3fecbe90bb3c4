// lines.h -- file and line of addresses, from a unit's line program
#ifndef MEMLEAK_SYMBOLIZE_LINES_H
#define MEMLEAK_SYMBOLIZE_LINES_H

#include "unit.h"

struct line_file {
	struct value name;
	uint64_t directory;
};

struct place { // of one address
	uint64_t address;
	uint32_t file, line, column, discriminator;
	bool found, from_zero; // from_zero: by a sequence from the address 0 on, which may be of what the linker took out
};

struct line_table {
	struct debug_file *file;
	const struct unit *unit;
	uint8_t *bytes; // the program, if it was read from the file
	struct encoding encoding; // its own: it may differ from its unit's
	struct value *directory;
	struct line_file *entry;
	uint32_t directories, entries;
};

// Runs the unit's program. `places` is in ascending order of address; what no row covers stays not found. False: there is no
// program that can be read. The table is to be freed either way.
bool lines_run(struct debug_file *file, struct unit *unit, struct place *places, uint32_t count, struct line_table *table);

// The path of a file by its number in the program, malloc()ed: with its directory and the unit's unless absolute. NULL: no such file.
char *lines_path(const struct line_table *table, uint64_t number);

void lines_free(struct line_table *table);

#endif
