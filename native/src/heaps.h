// heaps.h -- what the C library's allocator says of itself
//
// Layer 10. Cold, and more than that: it takes the allocator's locks. Never from a signal handler, in which a thread may be inside malloc.
#ifndef MEMLEAK_HEAPS_H
#define MEMLEAK_HEAPS_H

#include "ledger.h"

// Asks it. False, and a state that says why: another library's malloc is in charge, or the C library cannot tell.
bool heaps_ask(struct ledger_heap *out);

// Asks it for the ledger when that is due, and has not taken long. For a thread that is never inside malloc.
void heaps_ask_if_due(void);

// A recording was opened.
void heaps_begin(void);

#endif
