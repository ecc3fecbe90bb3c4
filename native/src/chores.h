// chores.h -- when cold work runs
//
// Layer 16. Cold.
#ifndef MEMLEAK_CHORES_H
#define MEMLEAK_CHORES_H

#include "base.h"

struct chores_rules {
	bool thread_allowed; // false (MEMLEAK_THREAD=0): never start a thread of our own
	bool preloaded;      // other tools' hooks end in ours: that they sit in front costs no sample
};

// A recording has been opened: hook what is loaded.
void chores_begin(struct chores_rules rules);

// The program has just created a thread: it is multi-threaded now, so one more does no harm.
void chores_thread_created(void);

// The program is about to do what only a process with one thread may: if ours is the only other one, it ends now.
void chores_leave_alone(void);

// Hook what the loader has brought since the last look. Cheap if it brought nothing. `handle`: of dlsym().
void chores_objects_may_have_come(const void *handle);

// All that is due: a forked child's recording, objects, lost hooks, room, names. `thorough`: every slot is looked at.
void chores_do(bool thorough);

#endif
