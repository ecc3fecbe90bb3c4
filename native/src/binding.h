// binding.h -- what the loader will bind a call to that it has not bound yet
//
// Layer 4. Cold.
#ifndef MEMLEAK_BINDING_H
#define MEMLEAK_BINDING_H

#include "relocs.h"

// The function that a call by `name` from this object will reach; 0: nobody defines it, or what the loader will choose
// cannot be told from its list. Inside dl_iterate_phdr(), whose lock keeps that list.
uintptr_t binding_of(const struct relocs *object, const char *name);

#endif
