// hook_malloc.h -- the malloc family and mappings
//
// Layer 14. The hooks themselves are hot and go by the names of what they hook.
#ifndef MEMLEAK_HOOK_MALLOC_H
#define MEMLEAK_HOOK_MALLOC_H

// Give slots.h the names, before its first scan. Cold.
void hook_malloc_register(void);

#endif
