// modules_seen.c -- the objects that were seen loaded: an id for each, for life
//
// Context:   sampled: an object may first be met in a backtrace. No lock, no allocation, no system call.
// Invariant: an entry's identity never changes once its id stands in the index. An id is never reused
//            for another object; an object that comes back to the same place gets its old id.
// Why:       frames in a recording name objects by id, long after these may be gone.
// Proof:     tests/native/test_modules.c; tests/models/unload.pml
#include "modules_seen.h"

#define STRING_BYTES (1U << 20)

uint64_t module_frame_base[MODULES_MAX];
uint64_t module_generation = 1;
bool module_greenlet;

struct modules_known modules_known;
struct module modules_seen[MODULES_MAX];
uint16_t modules_index[MODULES_INDEX_SLOTS]; // open addressing, never removed
static uint32_t ids_used = 1;        // id 0 is "unknown"
static uint32_t spare_id;            // an id that was claimed and not needed
static char strings[STRING_BYTES];   // paths; touched as far as used
static uint32_t strings_used;

const struct module *modules_get(unsigned id) { return &modules_seen[id < MODULES_MAX ? id : 0]; }

unsigned modules_count(void)
{
	// Relaxed: the count publishes nothing, an entry's state does.
	uint32_t used = load_relaxed(&ids_used);
	return used < MODULES_MAX ? used : MODULES_MAX;
}

// The loader keeps a name as it was given. One that is relative to a directory is kept with ours of
// the start, which is right unless the program had changed it before loading.
static const char *directory_of(const char *name)
{
	if (name[0] != '/')
		for (unsigned i = 0; i < MODULE_PATH_MAX && name[i]; i++)
			if (name[i] == '/')
				return modules_known.directory;
	return "";
}

static bool same_path(const char *path, const char *name)
{
	if (*path == 0)
		return true; // not known: there was no room for it
	for (const char *directory = directory_of(name); *directory; directory++)
		if (*path++ != *directory)
			return false;
	for (; *path == *name; path++, name++)
		if (*path == 0)
			return true;
	return *path == 0; // kept as far as there was room
}

static bool same_object(const struct module *module, const struct modules_sighting *seen)
{
	const struct elf_image *a = &module->image, *b = seen->image;
	if (a->low != b->low || a->high != b->high || a->bias != b->bias || a->text_low != b->text_low ||
	    a->text_high != b->text_high || a->eh_frame_hdr != b->eh_frame_hdr ||
	    a->build_id_bytes != b->build_id_bytes)
		return false;
	for (unsigned i = 0; i < a->build_id_bytes; i++)
		if (a->build_id[i] != b->build_id[i])
			return false;
	return same_path(module->path, seen->path);
}

static const char *keep_path(const char *name)
{
	uint32_t length = 0;
	const char *part[2] = {directory_of(name), name};
	for (unsigned p = 0; p < 2; p++)
		for (uint32_t i = 0; part[p][i] && length < MODULE_PATH_MAX; i++)
			length++;
	if (length == 0 || load_relaxed(&strings_used) > STRING_BYTES - MODULE_PATH_MAX - 1)
		return "";
	uint32_t at = add_relaxed(&strings_used, length + 1); // relaxed: the bytes are published with the entry
	if (at > STRING_BYTES - MODULE_PATH_MAX - 1)
		return "";
	char *to = &strings[at], *end = to + length;
	for (unsigned p = 0; p < 2; p++)
		for (uint32_t i = 0; part[p][i] && to < end; i++)
			*to++ = part[p][i];
	*end = 0;
	return &strings[at];
}

static unsigned claim_id(void)
{
	unsigned id = exchange_acq_rel(&spare_id, 0); // pairs with the exchange in abandon_id()
	if (id)
		return id;
	if (load_relaxed(&ids_used) >= MODULES_MAX) // so that the counter cannot wrap
		return 0;
	id = add_relaxed(&ids_used, 1);
	return id < MODULES_MAX ? id : 0;
}

static void abandon_id(unsigned id)
{
	store_relaxed(&modules_seen[id].state, MODULE_EMPTY); // relaxed: nobody else knows this id
	exchange_acq_rel(&spare_id, id); // pairs with claim_id(); one already spare is lost
}

// An unload that nobody told us about shows when another object stands in its place.
static void notice_overlap(const struct elf_image *image, unsigned self_id, uint64_t generation)
{
	unsigned count = modules_count();
	for (unsigned id = 1; id < count; id++) {
		const struct module *other = &modules_seen[id];
		if (id != self_id && load_acquire(&other->state) == MODULE_VALID && // pairs with make_valid()
		    image->low < other->image.high && other->image.low < image->high &&
		    load_relaxed(&other->generation) == generation) {
			modules_bump_generation();
			return;
		}
	}
}

// The extension module of the greenlet package, as Python names it: …/_greenlet.cpython-311-x86_64-linux-gnu.so
static bool is_greenlets(const char *path)
{
	static const char wanted[] = "_greenlet.";
	const char *name = path;
	for (unsigned i = 0; i < MODULE_PATH_MAX && path[i]; i++)
		if (path[i] == '/')
			name = &path[i + 1];
	for (unsigned i = 0; i < sizeof(wanted) - 1; i++)
		if (name[i] != wanted[i])
			return false;
	return true;
}

static void fill_entry(unsigned id, const struct modules_sighting *seen)
{
	struct module *module = &modules_seen[id];
	const struct elf_image *image = seen->image;
	module->image = *image;
	module->path = keep_path(seen->path);
	module->flags = (image->low == modules_known.main_low ? MLF_MODULE_MAIN : 0) |
			(image->low == modules_known.vdso ? MLF_MODULE_VDSO : 0) |
			(modules_known.core >= image->low && modules_known.core < image->high ? MLF_MODULE_CORE : 0) |
			(is_greenlets(seen->path) ? MLF_MODULE_GREENLET : 0);
	if (module->flags & MLF_MODULE_GREENLET)
		store_relaxed(&module_greenlet, true); // relaxed: who has its frames has seen it
	store_relaxed(&module->link_map, seen->link_map);
	store_relaxed(&module->generation, seen->generation);
	module_frame_base[id] = ((uint64_t)id << MLF_FRAME_MODULE_SHIFT) - image->bias;
	store_relaxed(&module->state, MODULE_FILLING); // relaxed: nobody else knows this id
}

// An entry that stands in the index is valid; whoever finds it there first says so, lest the thread
// that filled it be stopped, or lost in a fork, just before.
static void make_valid(unsigned id)
{
	if (load_relaxed(&modules_seen[id].state) != MODULE_VALID)
		store_release(&modules_seen[id].state, MODULE_VALID); // pairs with readers of state
}

// The id of an object that is loaded now: its old one, or a new one. Lock-free: two threads may both
// fill an entry for one object; the one that loses the index slot gives its entry back.
NOINLINE unsigned modules_see(const struct modules_sighting *seen)
{
	unsigned claimed = 0, slot = modules_index_start(seen->image->low);
	for (unsigned probe = 0; probe < MODULES_INDEX_SLOTS;) {
		uint16_t id = load_acquire(&modules_index[slot]); // pairs with the CAS below
		if (id && same_object(&modules_seen[id], seen)) {
			make_valid(id);
			// Relaxed: hints, compared word by word in modules_seen_at().
			if (seen->link_map)
				store_relaxed(&modules_seen[id].link_map, seen->link_map);
			if (load_relaxed(&modules_seen[id].generation) != seen->generation) {
				store_relaxed(&modules_seen[id].generation, seen->generation);
				notice_overlap(seen->image, id, seen->generation);
			}
			if (claimed)
				abandon_id(claimed);
			return id;
		}
		if (id) {
			slot = (slot + 1) % MODULES_INDEX_SLOTS;
			probe++;
			continue;
		}
		if (!claimed) {
			claimed = claim_id();
			if (!claimed)
				return 0;
			fill_entry(claimed, seen);
		}
		uint16_t empty = 0;
		if (cas_acq_rel(&modules_index[slot], &empty, (uint16_t)claimed)) {
			make_valid(claimed);
			notice_overlap(seen->image, claimed, seen->generation);
			return claimed;
		}
	}
	return 0;
}
