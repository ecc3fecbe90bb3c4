// pycode.h -- Python code objects as the recording knows them
//
// Layer 7. Sampled: written at first sight by the thread whose frame keeps the object alive.
#ifndef MEMLEAK_PYCODE_H
#define MEMLEAK_PYCODE_H

#include "pylayout.h"

// Before anything else here; cold. `code_type`: address of PyCode_Type, to which a note of each code object's
// death is attached.
void pycode_attach(const struct pylayout *layout, uintptr_t code_type);

// Is this a code object? `object` must be readable.
bool pycode_is_code(uintptr_t object);

// It is about to be asked for. Whatever stands at `code`: nothing is read.
void pycode_prefetch(uintptr_t code);

// Ref of its record, 0 if there is no room (counted).
uint32_t pycode_ref(uintptr_t code);

// Bytes of its instructions at most; for a check of an offset.
uint32_t pycode_instruction_bytes(uintptr_t code);

// Called when a code object has died, with the GIL: a moment that most programs pass now and then. Cold.
void pycode_when_code_dies(void (*call)(void));

#endif
