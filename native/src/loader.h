// loader.h -- may the loader's list be asked for, in this process?
//
// Layer 4. Cold.
#ifndef MEMLEAK_LOADER_H
#define MEMLEAK_LOADER_H

#include "base.h"

// The program is about to fork; `threads`: it has, or had, more than one.
void loader_before_fork(bool threads);
// In the child, at once.
void loader_after_fork(void);

// Could dl_iterate_phdr() wait for ever here?
bool loader_lock_may_be_lost(void);

// Not any more, if this handle of dlopen()'s is of an object that the process has loaded since it was forked.
void loader_note_handle(const void *handle);

// It shall be waited for, come what may.
void loader_trust_lock(void);

// For a thread that nobody waits for: returns when that is certain, or never.
void loader_wait_for_lock(void);

#endif
