// linetable.h -- the header of a line program
#ifndef MEMLEAK_SYMBOLIZE_LINETABLE_H
#define MEMLEAK_SYMBOLIZE_LINETABLE_H

#include "unit.h"

struct line_file {
	struct value name;
	uint64_t directory;
};

struct line_table {
	struct debug_file *file;
	const struct unit *unit;
	uint8_t *bytes; // the program, if it was read from the file
	struct encoding encoding; // its own: it may differ from its unit's
	struct value *directory;
	struct line_file *entry;
	uint32_t directories, entries;
	uint8_t minimum, line_range, opcode_base, operands[256]; // bytes of an instruction at least; of special opcodes; of the others
	int8_t line_base;
};

// Reads the header of the table's unit, and leaves the cursor at the program. False: it cannot be read, or there is no memory.
bool line_table_read(struct line_table *table, struct bytes *b);

// One more file, as a program may define. False: there are too many, or no memory.
bool line_table_add(struct line_table *table, const struct value *name, uint64_t directory);

// The path of a file by its number, malloc()ed: with its directory and the unit's unless absolute. NULL: no such file.
char *line_table_path(const struct line_table *table, uint64_t number);

void line_table_free(struct line_table *table);

#endif
