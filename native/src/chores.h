// chores.h -- when cold work runs
//
// Layer 10. Cold.
#ifndef MEMLEAK_CHORES_H
#define MEMLEAK_CHORES_H

#include "base.h"

// False (MEMLEAK_THREAD=0): never start a thread of our own.
void chores_allow_thread(bool allowed);

// The program has just created a thread: it is multi-threaded now, so one more does no harm.
void chores_thread_created(void);

#endif
