// lines.h -- file and line of addresses, from a unit's line program
#ifndef MEMLEAK_SYMBOLIZE_LINES_H
#define MEMLEAK_SYMBOLIZE_LINES_H

#include "linetable.h"

struct place { // of one address
	uint64_t address;
	uint32_t file, line, column, discriminator;
	bool found, from_zero; // from_zero: by a sequence from the address 0 on, which may be of what the linker took out
};

// Runs the unit's program. `places` is in ascending order of address; what no row covers stays not found. False: there is no
// program that can be read. The table is to be freed either way.
bool lines_run(struct debug_file *file, struct unit *unit, struct place *places, uint32_t count, struct line_table *table);

#endif
