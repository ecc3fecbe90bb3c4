// label.h -- labels that can be entered and left
#ifndef MEMLEAK_SCOPES_LABEL_H
#define MEMLEAK_SCOPES_LABEL_H

#include "home.h"

// Makes the type; home has the others. NULL: an error is set.
PyTypeObject *label_make_type(PyObject *module, const struct home *home);

// Tells two addresses in the core, of the process as the core is: how many samples it has noted under entries, and what counts an
// entry under a set that was left.
void label_join(const uint32_t *noted, void (*count_call)(unsigned number));

#endif
