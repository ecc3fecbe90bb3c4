// slots_object.h -- the slots of one loaded object: hooked, left alone, or to be looked at again
//
// Layer 6. Cold, inside dl_iterate_phdr().
#ifndef MEMLEAK_SLOTS_OBJECT_H
#define MEMLEAK_SLOTS_OBJECT_H

#include "memleak_format.h"
#include "relocs.h"
#include "slots_names.h"

#include <link.h>

// Does it define malloc? The C library, which takes blocks of others as well, counts as none.
enum slots_allocator { SLOTS_NO_ALLOCATOR, SLOTS_THE_ALLOCATOR, SLOTS_OTHER_ALLOCATOR };

struct slots_object {
	struct relocs relocs;
	unsigned id; // 0: not known, nothing is remembered
	enum slots_allocator allocator;
	bool loaded; // its loader is done with it
	// found while patching
	uint32_t here, elsewhere, unbound;
	bool refused;
	bool taken;      // by another tool
	bool undecided;  // what a slot will be bound to is not certain
	bool unfinished; // its loader is not done with it, or a slot could not be looked at now
	bool watched;    // the sentinel is of a function whose loss matters most
	uintptr_t sentinel;
	unsigned holder;
};

// What it is made of, and nothing found yet. False: it cannot be read.
bool slots_read_object(const struct dl_phdr_info *info, struct slots_object *out);

// Patches it, after `allocator` was set.
void slots_look_at_object(struct slots_object *object);

// What was found means this.
enum mlf_coverage slots_coverage_of(const struct slots_object *object);

#endif
