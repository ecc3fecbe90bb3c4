// pyruntime.h -- the CPython that is in this process
//
// Layer 5. Cold, but for reading what was found.
#ifndef MEMLEAK_PYRUNTIME_H
#define MEMLEAK_PYRUNTIME_H

#include "pylayout.h"

// Constant once pyruntime_find() has found one.
struct pyruntime {
	uint32_t version; // PY_VERSION_HEX
	const struct pylayout *layout; // NULL: its frames cannot be read
	uintptr_t at;                  // of _PyRuntime
	uintptr_t code_type;           // of PyCode_Type
	uintptr_t (*by_thread)(void);  // this thread's PyThreadState, by its thread-local slot
	uintptr_t (*current)(void);    // that of the thread which holds the GIL; from 3.12 on 0 unless it is this one
	uint64_t loop_low, loop_high;  // frame words of the function that runs Python code; 0: not known
};
extern struct pyruntime pyruntime HIDDEN;

// Looks for one; cheap where the loader's list has not grown since there was none. NONE: there is none, else what its
// frames are to us. Its library is never unloaded then. One thread at a time, not once it was found, never inside malloc.
enum mlf_python pyruntime_find(void);

// Address of a function of the interpreter that was found, of that one and no other's; 0 if it has none such.
uintptr_t pyruntime_function(const char *name);

#endif
