// modules.h -- which loaded object does an instruction belong to?
//
// Layer 4. The objects themselves: modules_seen.h.
#ifndef MEMLEAK_MODULES_H
#define MEMLEAK_MODULES_H

#include "modules_seen.h"

// Cold, once, before anything else here. own_snapshot: do not use _dl_find_object even if the C
// library has it (glibc >= 2.35).
void modules_init(bool own_snapshot);

// Cold: look at the loader's list, register what is new, notice what is gone.
void modules_refresh(void);

// Cold: something was or is about to be unloaded; everything derived from addresses is re-derived.
void modules_note_unload(void);

// Cold: the program is about to create a thread, or has others already.
void modules_note_thread(void);
// Cold: has it, or did it once? False only if it never had any, as far as can be told.
bool modules_program_has_threads(void);

// Sampled: id of the object mapped at pc, or 0.
unsigned modules_find(uintptr_t pc);

#endif
