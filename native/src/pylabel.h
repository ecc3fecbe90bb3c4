// pylabel.h -- which set of labels Python code is under
//
// Layer 6. pylabel_of() is sampled, the rest is cold.
#ifndef MEMLEAK_PYLABEL_H
#define MEMLEAK_PYLABEL_H

#include "pyruntime.h"

// How Python code says it: a context variable, whose value is an object of one type that keeps the number at one place.
struct pylabel_variable {
	uintptr_t variable, type; // addresses of the ContextVar and of its values' type
	uint32_t hash;            // of the variable, as maps of context variables fold it
	uint16_t number_offset;   // in a value, of a struct pylabel_value
};

// The second: the entry of a label with `outcome` that the code is in, 0: none.
struct pylabel {
	uint32_t number, entry;
} __attribute__((aligned(8)));

struct pylabel_value {
	struct pylabel label; // read in one go
	uintptr_t kept;       // if its number is 0: an object of the same type whose number holds, or 0; never changes
};

enum mlf_labels pylabel_state(void);

// The set in force in a thread's context, number 0: none. `thread`: its state, of this thread, or one kept from being freed.
struct pylabel pylabel_of(uintptr_t thread);

// Learns by example what maps of context variables are made of, and whether we read them right. To be called by this
// thread with the GIL while `expected` is the number in force in a context with only that variable, then once more in one
// with some forty.
enum pylabel_outcome { PYLABEL_WRONG, PYLABEL_MORE, PYLABEL_DONE };
enum pylabel_outcome pylabel_learn(uintptr_t thread, const struct pylabel_variable *variable, uint32_t expected);

#endif
