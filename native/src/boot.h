// boot.h -- what must be known before anything can be recorded
//
// Layer 14. Cold.
#ifndef MEMLEAK_BOOT_H
#define MEMLEAK_BOOT_H

#include "base.h"

// The functions behind our hooks, the loaded objects, the unwinder. Any thread, any number of times.
void boot(void);

// The core was preloaded: the loader binds mmap, and malloc unless the program has its own, to us.
bool boot_is_preloaded(void);

// Does the loader bind this name to us for the whole program?
bool boot_is_ours(const char *name);

#endif
