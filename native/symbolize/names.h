// names.h -- the name of a function's entry
#ifndef MEMLEAK_SYMBOLIZE_NAMES_H
#define MEMLEAK_SYMBOLIZE_NAMES_H

#include "unit.h"

struct name {
	const struct debug_file *file;
	uint64_t entry;
	char *text;   // NULL: it has none
	bool linkage; // as linkers spell it
	uint32_t batch, kept; // the last batch that gave it out, and where in its text
};

struct names { // found so far; open addressing, at most half full
	struct name *slot;
	uint32_t used, room;
	uint64_t bytes; // of all texts
};

// The name of the entry at an offset of the file's .debug_info; through abstract origins and specifications, into other units and the
// alternate file. `loaded` is what unit_load() gave for `unit`; both may be empty. NULL: no memory.
struct name *names_find(struct names *names, struct debug_file *file, uint64_t entry, struct unit *unit, struct bytes loaded);

// The same for what an attribute of an entry of `unit` refers to: calls of one function share its name. NULL: it refers to nothing known.
struct name *names_of_origin(struct names *names, struct debug_file *file, const struct value *origin, struct unit *unit,
			     struct bytes loaded);

// Forgets all if they take much memory. Names that were given out are gone then.
void names_make_room(struct names *names);

void names_free(struct names *names);

#endif
