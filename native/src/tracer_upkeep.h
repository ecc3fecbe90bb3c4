// tracer_upkeep.h -- what cold code does to the open recording, and asks of it
//
// Layer 11. Cold.
#ifndef MEMLEAK_TRACER_UPKEEP_H
#define MEMLEAK_TRACER_UPKEEP_H

#include "base.h"

void tracer_poll(void); // chores: knobs, names, room, the limit, the ledger, copies
void tracer_make_room(void); // of these, what cannot wait for the next chore
void tracer_make_room_in_allocator(void); // the same as far as it can be done there; opens no file
void tracer_note_python(void); // what is known of an interpreter in this process
void tracer_unload_noticed(void);

struct catalog_coverage;
void tracer_note_coverage(unsigned module, const struct catalog_coverage *coverage);

// Hooks had been taken away: frees went past. Closes every sample of what malloc and operator new gave, as `displaced`.
void tracer_hooks_were_displaced(void);
void tracer_python_was_displaced(bool unseen); // the same for what Python's allocators gave; `unseen`: blocks were, too

// The row of the live sample of an address, by whatever it was asked for; 0: none.
uint32_t tracer_row_at(const void *address);

struct rows_held;
struct rows_held tracer_held(void); // what all rows hold; nothing while not recording
void tracer_reset_peak(void);

#endif
