// marks.h -- what the process held when it came near the limit of its memory
//
// Layer 7. Cold. One caller at a time, and not while a recording is being replaced.
#ifndef MEMLEAK_MARKS_H
#define MEMLEAK_MARKS_H

#include "base.h"

// A recording was opened: looks for the limit.
void marks_begin(void);

// It is time for a look: a second since the last one, or some more where the limit is far. One system call at most.
bool marks_are_due(void);

// Notes how near the limit is; passing 80, 90 or 95 % of it leaves a mark. True: it did.
bool marks_look(void);

#endif
