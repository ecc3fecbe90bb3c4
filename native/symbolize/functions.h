// functions.h -- which function, and which inlined calls, addresses lie in
#ifndef MEMLEAK_SYMBOLIZE_FUNCTIONS_H
#define MEMLEAK_SYMBOLIZE_FUNCTIONS_H

#include "unit.h"

#define NO_SCOPE 0xFFFFFFFF

// A function, or a call that was inlined.
struct scope {
	uint64_t entry; // its offset in .debug_info
	uint64_t function; // that of the function that it is, or is inlined into
	uint32_t outer;	   // the scope that it was inlined into; NO_SCOPE: it is a function
	uint32_t call_file, call_line, call_column, call_discriminator;
	struct value origin; // of a call: what has its function's name
	uint64_t low;	     // its first address, as it is written down
};

struct function_search {
	struct debug_file *file;
	struct unit *unit;
	const uint64_t *address; // ascending
	uint32_t *innermost;	 // for each address: the scope found, NO_SCOPE until then
	uint32_t count;
	struct scope *scope;
	uint32_t scopes, scopes_room;
	struct bytes loaded; // the unit's entries
};

// Finds the scopes of all addresses that any function of the unit covers. False: the unit cannot be read, or there is no memory.
bool functions_find(struct function_search *search);

#endif
