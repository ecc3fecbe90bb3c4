// pygil.h -- what is done with the interpreter's help
//
// Layer 9. Cold.
#ifndef MEMLEAK_PYGIL_H
#define MEMLEAK_PYGIL_H

#include "base.h"

// Calls `work` with the GIL if this thread has it or, with `may_take`, by taking it. False: it was not called.
bool pygil_call(bool may_take, void (*work)(void));

// Compare a walk with what the interpreter says, once; Python frames are off for good if they differ. With the GIL.
void pygil_self_test(void);

// Have the interpreter tell when it is about to end; again if it was begun again. With the GIL. What tells is in a module,
// which may not be there: it is imported only where Python code may be run.
void pygil_watch_end(bool may_import);

// Has the interpreter begun, and not ended?
bool pygil_is_initialised(void);

#endif
