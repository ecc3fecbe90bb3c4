// patch.h -- one word of a loaded object is exchanged while the program runs
//
// Layer 5. Cold; one thread at a time.
#ifndef MEMLEAK_PATCH_H
#define MEMLEAK_PATCH_H

#include "base.h"

enum patch_result {
	PATCH_DONE,
	PATCH_CHANGED,   // another thread stored there meanwhile, and that stands
	PATCH_LATER,     // what the page allows now could not be told
	PATCH_REFUSED,   // it may not be written to
	PATCH_LEFT_OPEN, // done, but its page could not be protected again
};

// *place becomes `to` if it is `from`. `relro`: its page is one that the loader protects for good, sooner or later;
// afterwards it is protected if it was.
enum patch_result patch_word(uintptr_t *place, uintptr_t from, uintptr_t to, bool relro);

#endif
