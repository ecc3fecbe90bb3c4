// slots.h -- the places where loaded objects keep the addresses of functions they call
//
// Layer 8. Cold.
#ifndef MEMLEAK_SLOTS_H
#define MEMLEAK_SLOTS_H

#include "base.h"

// In every loaded object but ours: each slot of a symbol that `wanted` accepts gets what
// `replacement` says for (name, what the slot leads to now); 0 leaves it alone. Slots that already hold a
// function of ours are left alone. RELRO pages get their exact protection back.
void slots_patch_all(bool (*wanted)(const char *name), uintptr_t (*replacement)(const char *name, uintptr_t original));

#endif
