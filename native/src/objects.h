// objects.h -- the loader's list of objects, read under its lock
//
// Layer 3. Cold.
#ifndef MEMLEAK_OBJECTS_H
#define MEMLEAK_OBJECTS_H

#include "base.h"

#include <link.h>

// dl_iterate_phdr(). `see` neither allocates nor locks. False: another thread forks, and nothing was looked at.
bool objects_try_each(int (*see)(struct dl_phdr_info *, size_t, void *), void *context);

// The same, but waits for that fork, two seconds at most; a thread that forks itself does not wait.
void objects_each(int (*see)(struct dl_phdr_info *, size_t, void *), void *context);

// Returns when this thread has had the loader's lock, or never. For a thread that nobody waits for.
void objects_wait_for_lock(void);

// The first definition of `name` in any object; 0 if none. See elf_global_symbol().
uintptr_t objects_symbol(const char *name);

// For pthread_atfork(): in between no thread of ours has the loader's lock. The first waits 50 ms at most for a
// thread that may be waiting itself, and ten seconds for one that has the lock.
void objects_before_fork(void);
void objects_after_fork(void); // in the parent

#endif
