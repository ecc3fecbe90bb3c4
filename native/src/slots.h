// slots.h -- the places where loaded objects keep the addresses of functions they call
//
// Layer 9. Cold. One mechanism for both doors: the import door brings the hooks with it, the preload door finds
// what the loader bound past us (dlopen with RTLD_DEEPBIND, operator new), and both learn what is out of reach.
#ifndef MEMLEAK_SLOTS_H
#define MEMLEAK_SLOTS_H

#include "catalog.h"

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

enum slots_how {
	SLOTS_IF_CHANGED, // only if the loader's list changed since; cheap
	SLOTS_CHECK,      // look also whether each object still holds our hook
	SLOTS_ALL,        // every slot of every object
};

struct slots_result {
	bool looked;    // some object was looked at: coverage may have changed
	bool displaced; // hooks of ours had been replaced meanwhile: calls went past
};

// Hook what is loaded. Any thread; a second one leaves its work to the first. With SLOTS_IF_CHANGED it returns when what the
// thread had loaded before has been looked at, but for a scan that takes a tenth of a second. Never inside malloc.
struct slots_result slots_scan(enum slots_how how);

// False: the object of this module id was never looked at.
bool slots_coverage(unsigned id, struct catalog_coverage *out);

// The hook for a function of malloc's family, or another that dlsym() gives out, that it found; 0 if it is not what our
// hooks call.
uintptr_t slots_hook_for(const char *name, uintptr_t original);
bool slots_is_given(const char *name);

// Do several objects define malloc? Then who looks a name up may be meant to get another one than we think.
bool slots_several_allocators(void);

#endif
