// modules.c -- which loaded object does an instruction belong to?
//
// Context:   modules_find() is sampled; the rest is cold. No lock, no allocation; the sampled part
//            makes no system call. It calls one loader function, _dl_find_object, which is made for
//            unwinders: lock-free and async-signal-safe.
// Invariant: an entry's identity never changes once its id stands in the index. An id is never reused
//            for another object; an object that comes back to the same place gets its old id.
// Why:       dl_iterate_phdr() takes the loader's lock, which a thread inside dlclose() holds while it
//            calls free(). Without _dl_find_object (glibc < 2.35) cold code keeps an own sorted
//            snapshot.
// Proof:     tests/native/test_modules.c; tests/models/unload.pml
#include "modules.h"

#include "objects.h"
#include "sys.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#define INDEX_BITS 13
#define INDEX_SLOTS (1U << INDEX_BITS)
#define STRING_BYTES (1U << 20)

uint64_t module_frame_base[MODULES_MAX];
uint64_t module_generation = 1;
bool module_greenlet;

static struct module modules[MODULES_MAX];
static uint32_t ids_used = 1;        // id 0 is "unknown"
static uint32_t spare_id;            // an id that was claimed and not needed
static uint16_t index_slots[INDEX_SLOTS]; // id by hashed start of mapping; open addressing, never removed
static char strings[STRING_BYTES];   // paths; touched as far as used
static uint32_t strings_used;

// Set by modules_init, constant afterwards.
static struct {
	uintptr_t main_low, main_high, vdso, self;
	unsigned main_id;
	char main_path[MODULE_PATH_MAX + 1];
	char directory[MODULE_PATH_MAX + 1]; // of the process when we started, with a slash; or ""
} fixed;

// struct dl_find_object of glibc >= 2.35, declared here so that older headers do.
struct found_object {
	unsigned long long flags;
	void *map_start, *map_end;
	struct link_map *link_map;
	void *eh_frame;
#if !defined(__x86_64__)
	void *eh_dbase;
#endif
	unsigned long long reserved[7];
};
static int (*find_object)(void *address, struct found_object *out);

// An object as just seen loaded.
struct sighting {
	const struct elf_image *image;
	const char *path;
	uintptr_t link_map; // 0: not known
	uint64_t generation;
};

const struct module *modules_get(unsigned id) { return &modules[id < MODULES_MAX ? id : 0]; }

unsigned modules_count(void)
{
	// Relaxed: the count publishes nothing, an entry's state does.
	uint32_t used = load_relaxed(&ids_used);
	return used < MODULES_MAX ? used : MODULES_MAX;
}

// Relaxed, here and in the reader: see modules_generation().
static void modules_bump(void) { add_relaxed(&module_generation, 1); }

// ---- registering -----------------------------------------------------------------------------------

static unsigned index_start(uintptr_t low) { return (unsigned)((low >> 12) * 0x9E3779B97F4A7C15ULL >> (64 - INDEX_BITS)); }

// The loader keeps a name as it was given. One that is relative to a directory is kept with ours of
// the start, which is right unless the program had changed it before loading.
static const char *directory_of(const char *name)
{
	if (name[0] != '/')
		for (unsigned i = 0; i < MODULE_PATH_MAX && name[i]; i++)
			if (name[i] == '/')
				return fixed.directory;
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

static bool same_object(const struct module *module, const struct sighting *seen)
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
	store_relaxed(&modules[id].state, MODULE_EMPTY); // relaxed: nobody else knows this id
	exchange_acq_rel(&spare_id, id); // pairs with claim_id(); one already spare is lost
}

// An unload that nobody told us about shows when another object stands in its place.
static void notice_overlap(const struct elf_image *image, unsigned self_id, uint64_t generation)
{
	unsigned count = modules_count();
	for (unsigned id = 1; id < count; id++) {
		const struct module *other = &modules[id];
		if (id != self_id && load_acquire(&other->state) == MODULE_VALID && // pairs with make_valid()
		    image->low < other->image.high && other->image.low < image->high &&
		    load_relaxed(&other->generation) == generation) {
			modules_bump();
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

static void fill_entry(unsigned id, const struct sighting *seen)
{
	struct module *module = &modules[id];
	const struct elf_image *image = seen->image;
	module->image = *image;
	module->path = keep_path(seen->path);
	module->flags = (image->low == fixed.main_low ? MLF_MODULE_MAIN : 0) |
			(image->low == fixed.vdso ? MLF_MODULE_VDSO : 0) |
			(fixed.self >= image->low && fixed.self < image->high ? MLF_MODULE_CORE : 0) |
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
	if (load_relaxed(&modules[id].state) != MODULE_VALID)
		store_release(&modules[id].state, MODULE_VALID); // pairs with readers of state
}

// The id of an object that is loaded now: its old one, or a new one. Lock-free: two threads may both
// fill an entry for one object; the one that loses the index slot gives its entry back.
static NOINLINE unsigned module_see(const struct sighting *seen)
{
	unsigned claimed = 0, slot = index_start(seen->image->low);
	for (unsigned probe = 0; probe < INDEX_SLOTS;) {
		uint16_t id = load_acquire(&index_slots[slot]); // pairs with the CAS below
		if (id && same_object(&modules[id], seen)) {
			make_valid(id);
			// Relaxed: hints, compared word by word in find_by_start().
			if (seen->link_map)
				store_relaxed(&modules[id].link_map, seen->link_map);
			if (load_relaxed(&modules[id].generation) != seen->generation) {
				store_relaxed(&modules[id].generation, seen->generation);
				notice_overlap(seen->image, id, seen->generation);
			}
			if (claimed)
				abandon_id(claimed);
			return id;
		}
		if (id) {
			slot = (slot + 1) % INDEX_SLOTS;
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
		if (cas_acq_rel(&index_slots[slot], &empty, (uint16_t)claimed)) {
			make_valid(claimed);
			notice_overlap(seen->image, claimed, seen->generation);
			return claimed;
		}
	}
	return 0;
}

// ---- finding, with the loader's help ----------------------------------------------------------------

// Does the object that is mapped at the module's place now carry its build id? Looks only at the first
// page, which every mapped object has.
static inline bool same_build_id(const struct elf_image *image)
{
	if (image->build_id_bytes < 8 || image->build_id_offset > PAGE_BYTES - 8)
		return true;
	uint64_t now, then;
	__builtin_memcpy(&now, (const void *)(image->low + image->build_id_offset), sizeof now);
	__builtin_memcpy(&then, image->build_id, sizeof then);
	return now == then;
}

static unsigned find_by_start(uintptr_t low, uintptr_t link_map, uintptr_t eh_frame_hdr, uint64_t generation)
{
	unsigned slot = index_start(low);
	for (unsigned probe = 0; probe < INDEX_SLOTS; probe++, slot = (slot + 1) % INDEX_SLOTS) {
		uint16_t id = load_acquire(&index_slots[slot]); // pairs with the CAS in module_see()
		if (id == 0)
			return 0;
		const struct module *module = &modules[id];
		if (module->image.low == low && (uintptr_t)module->image.eh_frame_hdr == eh_frame_hdr &&
		    load_relaxed(&module->link_map) == link_map && load_relaxed(&module->generation) == generation &&
		    same_build_id(&module->image))
			return id;
	}
	return 0;
}

// First sight of an object, or first after an unload somewhere.
static NOINLINE unsigned see_found(const struct found_object *found, uint64_t generation)
{
	struct elf_image image;
	const char *path = found->link_map && found->link_map->l_name ? found->link_map->l_name : "";
	if (!elf_image_from_header((uintptr_t)found->map_start, &image))
		return 0; // modules_refresh() gets the program headers from the loader
	return module_see(&(struct sighting){.image = &image,
					     .path = path,
					     .link_map = (uintptr_t)found->link_map,
					     .generation = generation});
}

// ---- finding, in our own snapshot --------------------------------------------------------------------

struct span {
	uintptr_t low, high;
	uintptr_t id;
};

// Written by one thread at a time (refreshing), read by any. A reader that was overtaken sees the
// sequence change and tries again.
static struct snapshot {
	uint32_t sequence; // odd while being written
	uint32_t count;
	uint64_t generation; // of the loader's list it shows
	struct span spans[MODULES_MAX];
} snapshots[2];
static uint32_t snapshot_current; // 1 + index of the newest; 0 = none yet

static unsigned snapshot_find(uintptr_t pc)
{
	for (int attempt = 0; attempt < 3; attempt++) {
		uint32_t current = load_acquire(&snapshot_current); // pairs with snapshot_publish()
		if (current == 0)
			return 0;
		const struct snapshot *s = &snapshots[current - 1];
		uint32_t sequence = load_acquire(&s->sequence);
		if (sequence & 1)
			continue;
		// Between an unload and the next refresh the ranges may be gone or somebody else's:
		// better no frames than a fault.
		if (load_relaxed(&s->generation) != modules_generation())
			return 0;
		uint32_t low = 0, high = load_relaxed(&s->count);
		while (low < high) {
			uint32_t middle = (low + high) / 2;
			if (load_acquire(&s->spans[middle % MODULES_MAX].low) <= pc)
				low = middle + 1;
			else
				high = middle;
		}
		unsigned id = 0;
		if (low && pc < load_acquire(&s->spans[(low - 1) % MODULES_MAX].high))
			id = (unsigned)load_acquire(&s->spans[(low - 1) % MODULES_MAX].id);
		// The acquire loads above keep this one behind them. Pairs with snapshot_publish().
		if (load_relaxed(&s->sequence) == sequence)
			return id;
	}
	return 0;
}

// A single-threaded program offers no cold moment between loading an object and allocating from it. But
// nobody else can be in the loader then: if it is not in the middle of something itself, its
// list may be read here. Only without _dl_find_object; it costs a getpid, once per new object.
static const char *single_threaded; // __libc_single_threaded; NULL before glibc 2.32
static uint32_t program_has_threads; // relaxed: set by the very thread that asks, before there is another
static uint32_t listed_objects;

void modules_note_thread(void) { store_relaxed(&program_has_threads, 1); }

bool modules_program_has_threads(void)
{
	return load_relaxed(&program_has_threads) || (single_threaded && !*single_threaded);
}

static NOINLINE bool look_now(void)
{
	if (modules_program_has_threads() || _r_debug.r_state != RT_CONSISTENT)
		return false;
	uint32_t objects = 0;
	for (const struct link_map *map = _r_debug.r_map; map && objects < 4 * MODULES_MAX; map = map->l_next)
		objects++;
	if (objects == load_relaxed(&listed_objects))
		return false; // pc is in nothing the loader knows: JIT code, garbage
	store_relaxed(&listed_objects, objects);
	modules_refresh();
	return true;
}

static unsigned snapshot_find_or_look(uintptr_t pc)
{
	unsigned id = snapshot_find(pc);
	return likely(id) || !look_now() ? id : snapshot_find(pc);
}

unsigned modules_find(uintptr_t pc)
{
	if (pc >= fixed.main_low && pc < fixed.main_high)
		return fixed.main_id;
	if (!find_object)
		return snapshot_find_or_look(pc);
	struct found_object found;
	if (find_object((void *)pc, &found) != 0)
		return 0;
	uint64_t generation = modules_generation();
	unsigned id = find_by_start((uintptr_t)found.map_start, (uintptr_t)found.link_map,
				    (uintptr_t)found.eh_frame, generation);
	if (unlikely(!id))
		id = see_found(&found, generation);
	return id && pc < modules[id].image.high ? id : 0;
}

// ---- cold: the loader's list ---------------------------------------------------------------------------

struct refresh {
	bool first, changed;
	uint64_t generation;
	struct snapshot *into; // NULL: none wanted
};

static unsigned long long seen_adds, seen_subs; // by the refreshing thread
static bool seen_any;
static uint32_t refreshing; // pid of the process one of whose threads is refreshing; 0 = none
static bool own_snapshots;

// Release stores: a reader that sees one of them sees the odd sequence too. Pair: snapshot_find().
static void snapshot_add(struct snapshot *s, const struct elf_image *image, unsigned id)
{
	uint32_t at = s->count;
	if (at == MODULES_MAX)
		return;
	for (; at > 0 && s->spans[at - 1].low > image->low; at--) {
		store_release(&s->spans[at].low, s->spans[at - 1].low);
		store_release(&s->spans[at].high, s->spans[at - 1].high);
		store_release(&s->spans[at].id, s->spans[at - 1].id);
	}
	store_release(&s->spans[at].low, image->low);
	store_release(&s->spans[at].high, image->high);
	store_release(&s->spans[at].id, id);
	store_relaxed(&s->count, s->count + 1);
}

// The spare buffer, marked as being written.
static struct snapshot *snapshot_begin(void)
{
	struct snapshot *s = &snapshots[load_relaxed(&snapshot_current) == 1 ? 1 : 0];
	// Odd before any of what follows. Pairs with the loads of sequence in snapshot_find().
	exchange_acq_rel(&s->sequence, s->sequence | 1);
	store_relaxed(&s->count, 0);
	return s;
}

static void snapshot_publish(struct snapshot *s, uint64_t generation)
{
	store_relaxed(&s->generation, generation);
	store_release(&s->sequence, (s->sequence | 1) + 1); // pairs with snapshot_find()
	store_release(&snapshot_current, (uint32_t)(s - snapshots) + 1);
}

static bool list_changed(const struct dl_phdr_info *info, size_t bytes, const struct refresh *refresh)
{
	if (bytes < offsetof(struct dl_phdr_info, dlpi_subs) + sizeof info->dlpi_subs)
		return true;
	bool changed = !seen_any || info->dlpi_adds != seen_adds || info->dlpi_subs != seen_subs;
	if (seen_any && info->dlpi_subs != seen_subs)
		modules_bump();
	seen_adds = info->dlpi_adds;
	seen_subs = info->dlpi_subs;
	seen_any = true;
	uint32_t current = load_relaxed(&snapshot_current);
	if (refresh->into && (!current || snapshots[current - 1].generation != modules_generation()))
		return true;
	return changed;
}

// For dl_iterate_phdr(): under the loader's lock, so neither allocates nor locks.
COLD static int see_listed(struct dl_phdr_info *info, size_t bytes, void *context)
{
	struct refresh *refresh = context;
	if (!refresh->changed) {
		if (!list_changed(info, bytes, refresh))
			return 1;
		refresh->changed = true;
		refresh->generation = modules_generation();
	}
	struct elf_image image;
	if (!elf_image_from_phdrs(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum, &image))
		return 0;
	const char *path = info->dlpi_name ? info->dlpi_name : "";
	if (image.low == fixed.main_low)
		path = fixed.main_path;
	unsigned id = module_see(&(struct sighting){.image = &image, .path = path, .generation = refresh->generation});
	if (refresh->into && id)
		snapshot_add(refresh->into, &image, id);
	return 0;
}

COLD void modules_refresh(void)
{
	// One at a time; who comes second need not wait. A holder that did not survive a fork is
	// recognised by its pid.
	uint32_t self = (uint32_t)sys_call(SYS_getpid, 0, 0, 0), holder = load_relaxed(&refreshing);
	if (holder == self || !cas_acq_rel(&refreshing, &holder, self)) // pairs with the release below
		return;
	for (int attempt = 0; attempt < 3; attempt++) {
		struct refresh refresh = {.into = own_snapshots ? snapshot_begin() : NULL};
		if (!objects_try_each(see_listed, &refresh) || !refresh.changed)
			break;
		if (refresh.into)
			snapshot_publish(refresh.into, refresh.generation);
		// Seeing may itself have noticed an unload.
		if (refresh.generation == modules_generation())
			break;
	}
	store_release(&refreshing, 0);
}

COLD void modules_note_unload(void)
{
	modules_bump();
	if (own_snapshots)
		modules_refresh();
}

// ---- cold: start -------------------------------------------------------------------------------------------

COLD static void find_main(void)
{
	const Elf64_Phdr *phdr = (const Elf64_Phdr *)getauxval(AT_PHDR);
	unsigned count = (unsigned)getauxval(AT_PHNUM);
	struct elf_image image;
	uintptr_t bias = 0;
	for (unsigned i = 0; i < count; i++)
		if (phdr[i].p_type == PT_PHDR)
			bias = (uintptr_t)phdr - phdr[i].p_vaddr;
	long length = sys_readlink("/proc/self/exe", fixed.main_path, MODULE_PATH_MAX);
	fixed.main_path[length > 0 ? length : 0] = 0;
	if (!phdr || !elf_image_from_phdrs(bias, phdr, count, &image) ||
	    !elf_image_readable(&image, (uintptr_t)phdr, count * sizeof *phdr))
		return; // then it is found like any other object, only not known to be the main one
	fixed.main_low = image.low;
	unsigned id = module_see(&(struct sighting){
	    .image = &image, .path = fixed.main_path, .generation = modules_generation()});
	if (!id)
		return;
	fixed.main_id = id;
	fixed.main_high = image.high; // last: until now modules_find() went the other way
}

// Under the loader's lock, so that the list holds still.
COLD static int find_loader_function(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)info, (void)bytes, (void)context;
	uintptr_t address = elf_global_symbol("_dl_find_object");
	if (address)
		find_object = (int (*)(void *, struct found_object *))address;
	return 1;
}

COLD void modules_init(bool own_snapshot)
{
	fixed.vdso = getauxval(AT_SYSINFO_EHDR);
	fixed.self = (uintptr_t)modules_init;
	long length = sys_call(SYS_getcwd, fixed.directory, MODULE_PATH_MAX, 0); // with its terminator
	if (length > 1 && fixed.directory[0] == '/')
		fixed.directory[length - 1] = '/', fixed.directory[length] = 0;
	else
		fixed.directory[0] = 0;
	find_main();
	if (!own_snapshot)
		objects_each(find_loader_function, NULL);
	own_snapshots = find_object == NULL;
	single_threaded = (const char *)objects_symbol("__libc_single_threaded");
	modules_refresh();
}
