// hook_new.h -- operator new and delete, hooked at the slots they are called through
//
// Layer 9. hook_new_patch() is cold; the hooks are hot.
#ifndef MEMLEAK_HOOK_NEW_H
#define MEMLEAK_HOOK_NEW_H

// Patch the slots of every object loaded now. Idempotent; call again when objects have come.
void hook_new_patch(void);

#endif
