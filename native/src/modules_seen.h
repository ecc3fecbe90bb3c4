// modules_seen.h -- the objects that were seen loaded: an id for each, for life
//
// Layer 3. Sampled. Ids are given once, stay for the life of the process, and stand in frames and recordings.
#ifndef MEMLEAK_MODULES_SEEN_H
#define MEMLEAK_MODULES_SEEN_H

#include "atomics.h"
#include "elfimage.h"
#include "memleak_format.h"

#define MODULES_MAX 2048U // ids are 1 .. MODULES_MAX - 1; 0 = unknown
#define MODULE_PATH_MAX 1023U
#define MODULES_INDEX_BITS 13
#define MODULES_INDEX_SLOTS (1U << MODULES_INDEX_BITS)

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
extern uint64_t module_frame_base[MODULES_MAX] HIDDEN;
extern uint64_t module_generation HIDDEN;
extern bool module_greenlet HIDDEN;
extern struct module modules_seen[MODULES_MAX] HIDDEN;
extern uint16_t modules_index[MODULES_INDEX_SLOTS] HIDDEN; // id by hashed start of mapping

// Set by modules_init() before the first object is seen, constant afterwards.
struct modules_known {
	uintptr_t main_low, vdso; // where they begin; 0 = not known
	uintptr_t core;           // an address in ours
	char directory[MODULE_PATH_MAX + 1]; // of the process when we started, with a slash; or ""
};
extern struct modules_known modules_known HIDDEN;

// An object as just seen loaded.
struct modules_sighting {
	const struct elf_image *image;
	const char *path;
	uintptr_t link_map; // 0: not known
	uint64_t generation;
};

// The id of an object that is loaded now: its old one, or a new one; 0 = there is no id left. Lock-free: two threads may both
// fill an entry for one object; the one that loses the index slot gives its entry back.
unsigned modules_see(const struct modules_sighting *seen);

// A module of a valid id. Its state may not be MODULE_VALID for an id taken from counting.
const struct module *modules_get(unsigned id);
// One more than the greatest id handed out.
unsigned modules_count(void);

// How often something was unloaded. Relaxed: a walk that misses a bump races with the unload
// itself, and no frame of a running thread lies in an object that is being unloaded.
static inline uint64_t modules_generation(void) { return load_relaxed(&module_generation); }
static inline void modules_bump_generation(void) { add_relaxed(&module_generation, 1); }
// Was one seen that switches stacks (MLF_MODULE_GREENLET)?
static inline bool modules_greenlet_seen(void) { return load_relaxed(&module_greenlet); }
static inline uintptr_t modules_base(unsigned id)
{
	return ((uint64_t)id << MLF_FRAME_MODULE_SHIFT) - module_frame_base[id];
}

static inline unsigned modules_index_start(uintptr_t low)
{
	return (unsigned)((low >> 12) * 0x9E3779B97F4A7C15ULL >> (64 - MODULES_INDEX_BITS));
}

// Does the object that is mapped at the module's place now carry its build id? Looks only at the first
// page, which every mapped object has.
static inline bool modules_same_build_id(const struct elf_image *image)
{
	if (image->build_id_bytes < 8 || image->build_id_offset > PAGE_BYTES - 8)
		return true;
	uint64_t now, then;
	__builtin_memcpy(&now, (const void *)(image->low + image->build_id_offset), sizeof now);
	__builtin_memcpy(&then, image->build_id, sizeof then);
	return now == then;
}

// The id of an object that was seen since something was last unloaded, by what the loader says of it; 0 = it was not.
static inline unsigned modules_seen_at(uintptr_t low, uintptr_t link_map, uintptr_t eh_frame_hdr, uint64_t generation)
{
	unsigned slot = modules_index_start(low);
	for (unsigned probe = 0; probe < MODULES_INDEX_SLOTS; probe++, slot = (slot + 1) % MODULES_INDEX_SLOTS) {
		uint16_t id = load_acquire(&modules_index[slot]); // pairs with the CAS in modules_see()
		if (id == 0)
			return 0;
		const struct module *module = &modules_seen[id];
		if (module->image.low == low && (uintptr_t)module->image.eh_frame_hdr == eh_frame_hdr &&
		    load_relaxed(&module->link_map) == link_map && load_relaxed(&module->generation) == generation &&
		    modules_same_build_id(&module->image))
			return id;
	}
	return 0;
}

#endif
