// slots.h -- the places where loaded objects keep the addresses of functions they call
//
// Layer 9. Cold. One mechanism for both doors: the import door brings the hooks with it, the preload door finds
// what the loader bound past us (dlopen with RTLD_DEEPBIND, operator new), and both learn what is out of reach.
#ifndef MEMLEAK_SLOTS_H
#define MEMLEAK_SLOTS_H

#include "catalog.h"
#include "slots_names.h"

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

// Do several objects define malloc? Then who looks a name up may be meant to get another one than we think.
bool slots_several_allocators(void);

#endif
