// hook_events.h -- what a program calls that may bring or take objects and threads
//
// Layer 17. dlsym, dlclose, pthread_create: cold work hangs on them.
#ifndef MEMLEAK_HOOK_EVENTS_H
#define MEMLEAK_HOOK_EVENTS_H

// Give slots.h the names, before its first scan. Cold.
void hook_events_register(void);

#endif
