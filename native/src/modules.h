// modules.h -- which loaded object does an instruction belong to?
//
// Layer 4. A private registry of the objects seen in this process. Ids are given once, stay for the
// life of the process, and stand in frames and recordings.
#ifndef MEMLEAK_MODULES_H
#define MEMLEAK_MODULES_H

#include "atomics.h"
#include "elfimage.h"
#include "memleak_format.h"

#define MODULES_MAX 2048U // ids are 1 .. MODULES_MAX - 1; 0 = unknown
#define MODULE_PATH_MAX 1023U

enum module_state {
	MODULE_EMPTY = 0,
	MODULE_FILLING, // private to the thread that claimed it
	MODULE_VALID,
};

// Written by the thread that claimed the entry, any thread reads; `state` publishes it.
struct module {
	uint32_t state; // enum module_state
	uint32_t flags; // MLF_MODULE_*
	struct elf_image image;
	const char *path; // absolute but for the vdso's name; never NULL, "" when not known
	// Later written by any thread, each word on its own:
	uint64_t generation; // modules_generation() when it was last seen loaded
	uintptr_t link_map;  // the loader's record of it then
};

// By id: what to add to an address to make a frame word of it.
extern __attribute__((visibility("hidden"))) uint64_t module_frame_base[MODULES_MAX];
extern __attribute__((visibility("hidden"))) uint64_t module_generation;
extern __attribute__((visibility("hidden"))) bool module_greenlet;

// Cold, once, before anything else here. own_snapshot: do not use _dl_find_object even if the C
// library has it (glibc >= 2.35).
void modules_init(bool own_snapshot);

// Cold: look at the loader's list, register what is new, notice what is gone.
void modules_refresh(void);

// Cold: something was or is about to be unloaded; everything derived from addresses is re-derived.
void modules_note_unload(void);

// Cold: the program is about to create a thread, or has others already.
void modules_note_thread(void);
// Cold: has it, or did it once? False only if it never had any, as far as can be told.
bool modules_program_has_threads(void);

// Sampled: id of the object mapped at pc, or 0.
unsigned modules_find(uintptr_t pc);

// A module of a valid id. Its state may not be MODULE_VALID for an id taken from counting.
const struct module *modules_get(unsigned id);
// One more than the greatest id handed out.
unsigned modules_count(void);

// How often something was unloaded. Relaxed: a walk that misses a bump races with the unload
// itself, and no frame of a running thread lies in an object that is being unloaded.
static inline uint64_t modules_generation(void) { return load_relaxed(&module_generation); }
// Was one seen that switches stacks (MLF_MODULE_GREENLET)?
static inline bool modules_greenlet_seen(void) { return load_relaxed(&module_greenlet); }
static inline uintptr_t modules_base(unsigned id)
{
	return ((uint64_t)id << MLF_FRAME_MODULE_SHIFT) - module_frame_base[id];
}

#endif
