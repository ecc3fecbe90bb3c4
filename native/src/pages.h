// pages.h -- how a page of this process is protected
//
// Layer 4. Cold.
#ifndef MEMLEAK_PAGES_H
#define MEMLEAK_PAGES_H

#include "base.h"

enum pages_state {
	PAGES_UNKNOWN, // it cannot be told now, or there is none
	PAGES_PROTECTED,
	PAGES_WRITABLE,
};

// May the page that holds `address` be written to now?
enum pages_state pages_look(uintptr_t address);

// The part of it for kernels before 5.14, for its test.
enum pages_state pages_look_in_maps(uintptr_t address);

#endif
