// pages.h -- how a page of this process is protected
//
// Layer 4. Cold.
#ifndef MEMLEAK_PAGES_H
#define MEMLEAK_PAGES_H

#include "base.h"

// May the page that holds `address` be written to now? False when that cannot be told.
bool pages_writable(uintptr_t address);

// The part of it for kernels before 5.14, for its test.
bool maps_say_writable(uintptr_t address);

#endif
