// scope.h -- the labels in force: the value of the context variable
#ifndef MEMLEAK_SCOPES_SCOPE_H
#define MEMLEAK_SCOPES_SCOPE_H

#include "home.h"

#define SCOPE_DEEPEST 256U // one in another

struct scope {
	PyObject_HEAD
	struct scope *outer; // the outermost: itself
	PyObject *labels, *inner; // as text; NULL, or what was given -> the scope within that is kept
	PyObject *owner; // of a copy: the label that was entered
	// Read by the core as its struct pylabel_value. The first two in one go: number of the set, 0: the kept one's; which entry of a
	// label with `outcome` this is, or is within, 0: none.
	uint32_t number, entry;
	struct scope *kept; // what this is a copy of, for as long as it lives; NULL: none
	struct home *home;  // of the owner, and there as long as that is
	uint32_t began;     // how many samples were noted before this entry
	uint32_t depth;     // of the chain `outer`
	char open;          // an entry of its owner's whose outcome is not known yet
};
_Static_assert(offsetof(struct scope, number) % 8 == 0, "the core reads one word");

// Makes the type. NULL: an error is set.
PyTypeObject *scope_make_type(PyObject *module);

// A copy of `kept`, whose reference it takes, within `outer`, by this label. It is not in an entry yet. NULL: an error is set.
struct scope *scope_copy(struct home *home, struct scope *kept, struct scope *outer, PyObject *owner);

// The same labels, within nothing: for one that is SCOPE_DEEPEST deep. Takes the reference to `scope`. NULL: an error is set, or the
// interpreter ends.
struct scope *scope_flat(struct scope *scope);

// Frees what is held for the next copies.
void scope_drop_spares(struct home *home);

#endif
