// catalog.h -- modules and threads as the recording knows them
//
// Layer 6. Sampled: written at first sight by the thread that meets them.
#ifndef MEMLEAK_CATALOG_H
#define MEMLEAK_CATALOG_H

#include "base.h"

// Writes the module's record unless it is there. Its object must be loaded: it is on this thread's stack.
void catalog_module(unsigned id);

// How far an object's allocations are seen: the fields of struct mlf_module. It may be unloaded by now.
struct catalog_coverage {
	uint32_t coverage; // enum mlf_coverage
	uint32_t slots_here, slots_elsewhere;
	uint32_t holder; // module id
};
void catalog_coverage(unsigned id, const struct catalog_coverage *coverage);

// Is this frame inside an operator new (or our hook of one)? Its module must have been passed to catalog_module(), or to
// catalog_search().
bool catalog_is_plumbing(uint64_t frame);

// Finds a module's operator news beforehand. Its object must be loaded. Touches no recording.
void catalog_search(unsigned id);
bool catalog_has_plumbing(unsigned id); // has it any, as far as is known? Else catalog_is_plumbing() need not be asked

// This thread's id in the open recording; 0 if the table is full.
uint32_t catalog_thread(uint32_t now_cs);

// A sample of this thread has gone to a row; `thread` is its id.
void catalog_note_sample(uint32_t thread, uint32_t row, uint32_t now_cs);

// Fill in the names of threads that have none yet, and those of modules for which there was no room. Cold.
void catalog_name_threads(void);
void catalog_name_modules(void);

#endif
