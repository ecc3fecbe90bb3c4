// hook_pool.h -- what a program tells of its own allocators
//
// Layer 14.
#ifndef MEMLEAK_HOOK_POOL_H
#define MEMLEAK_HOOK_POOL_H

void hook_pool_register(void); // cold

#endif
