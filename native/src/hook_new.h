// hook_new.h -- operator new and delete, hooked at the slots they are called through
//
// Layer 14. The hooks are hot.
#ifndef MEMLEAK_HOOK_NEW_H
#define MEMLEAK_HOOK_NEW_H

// Give slots.h the names, before its first scan. Cold.
void hook_new_register(void);

#endif
