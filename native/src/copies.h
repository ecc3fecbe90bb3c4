// copies.h -- whole copies of the recording in other directories
//
// Layer 7. Cold.
#ifndef MEMLEAK_COPIES_H
#define MEMLEAK_COPIES_H

#include "base.h"

// A recording was opened: makes room in the directories for copies; the first one is due at once. One caller at a time.
void copies_begin(void);

// The next one is due at once.
void copies_hurry(void);

// Write one if a minute has passed since the last, and a directory for them was given.
void copies_write_when_due(void);

// Write the last one: the recording has ended.
void copies_write_last(void);

#endif
