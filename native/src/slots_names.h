// slots_names.h -- which functions that objects call are ours
//
// Layer 3. Cold.
#ifndef MEMLEAK_SLOTS_NAMES_H
#define MEMLEAK_SLOTS_NAMES_H

#include "base.h"

struct slots_name {
	const char *name;
	uintptr_t hook;            // 0: the table's choose() says
	const uintptr_t *original; // hooked only where a slot holds this; NULL: wherever
	bool watched;              // what goes past its hook would be shown as live for ever: its slot is looked at each second
};

enum slots_meaning {
	SLOTS_FAMILY,   // malloc's family: tells whether an object's allocations are seen; dlsym() gives the hooks out
	SLOTS_MAPPINGS, // not hooked in an object that is an allocator: what it maps is counted as what is cut from it
	SLOTS_NEW,      // operator new and delete: part of what an object is said to call, too
	SLOTS_GIVEN,    // dlsym() gives these hooks out too
	SLOTS_OFFERED,  // functions of ours that a program refers to weakly: its slot is empty where nobody defines them
	SLOTS_OTHER,
};

struct slots_table {
	const struct slots_name *names;
	unsigned count;
	enum slots_meaning meaning;
	uintptr_t (*choose)(unsigned index, uintptr_t original); // the hook for a slot, 0 = leave it alone
	struct slots_table *next; // ours
};

// Before the first scan, one thread.
void slots_register(struct slots_table *table);

// The hook for a function of malloc's family, or another that dlsym() gives out, that it found; 0 if it is not what our
// hooks call.
uintptr_t slots_hook_for(const char *name, uintptr_t original);
bool slots_is_given(const char *name);

// ---- for who reads slots -------------------------------------------------------------------------

bool slots_may_be_wanted(const char *name); // false: no table has it
const struct slots_table *slots_find_name(const char *name, unsigned *index);
uintptr_t slots_hook_of(const struct slots_table *table, unsigned index, uintptr_t original); // 0: leave the slot alone

#endif
