// outcome.h -- which samples an entry of a label with `outcome` took, and what becomes of them when it fails
//
// Layer 8. outcome_note() is sampled, the rest is cold.
#ifndef MEMLEAK_OUTCOME_H
#define MEMLEAK_OUTCOME_H

#include "liveset.h"

// The sample there was taken in this entry.
void outcome_note(const struct liveset_place *place, uint32_t entry);

// Makes room for notes. Where it is counted how many there have been: to be read when an entry begins.
const uint32_t *outcome_open(void);

// Another recording begins: nobody notes anything now.
void outcome_drop(void);

// `entry`, which began at that count, has ended with `line` ("outcome=NAME") in place of "outcome=ok": moves those of its samples
// that are live. Between enter() and leave() of tracer.c.
void outcome_settle(uint32_t entry, uint32_t began, const char *line);

#endif
