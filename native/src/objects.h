// objects.h -- the loader's list of objects, read under its lock
//
// Layer 3. Cold.
#ifndef MEMLEAK_OBJECTS_H
#define MEMLEAK_OBJECTS_H

#include "base.h"

#include <link.h>

// dl_iterate_phdr(). `see` neither allocates nor locks.
int objects_each(int (*see)(struct dl_phdr_info *, size_t, void *), void *context);

// The first definition of `name` in any object; 0 if none. See elf_global_symbol().
uintptr_t objects_symbol(const char *name);

// For pthread_atfork(): in between no thread of ours has the loader's lock. Neither waits longer than 50 ms.
void objects_before_fork(void);
void objects_after_fork(void); // in the parent

#endif
