// modules.c -- which loaded object does an instruction belong to?
//
// Context:   modules_find() is sampled; the rest is cold. No lock, no allocation; the sampled part
//            makes no system call. It calls one loader function, _dl_find_object, which is made for
//            unwinders: lock-free and async-signal-safe.
// Invariant: an answer is of the objects that are mapped now: once an unload is noticed, nothing seen before it is
//            believed until it is seen again.
// Why:       dl_iterate_phdr() takes the loader's lock, which a thread inside dlclose() holds while it
//            calls free(). Without _dl_find_object (glibc < 2.35) cold code keeps a snapshot.
// Proof:     tests/native/test_modules.c; tests/models/unload.pml
#include "modules.h"

#include "objects.h"
#include "snapshot.h"
#include "sys.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

_Static_assert(SNAPSHOT_SPANS == MODULES_MAX, "every module that has an id has room");

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

// Set by modules_init, constant afterwards.
static struct {
	uintptr_t low, high;
	unsigned id;
	char path[MODULE_PATH_MAX + 1];
} program;

// ---- finding ---------------------------------------------------------------------------------------

// First sight of an object, or first after an unload somewhere.
static NOINLINE unsigned see_found(const struct found_object *found, uint64_t generation)
{
	struct elf_image image;
	const char *path = found->link_map && found->link_map->l_name ? found->link_map->l_name : "";
	if (!elf_image_from_header((uintptr_t)found->map_start, &image))
		return 0; // modules_refresh() gets the program headers from the loader
	return modules_see(&(struct modules_sighting){
	    .image = &image, .path = path, .link_map = (uintptr_t)found->link_map, .generation = generation});
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
	unsigned id = snapshot_find(pc, &module_generation);
	return likely(id) || !look_now() ? id : snapshot_find(pc, &module_generation);
}

unsigned modules_find(uintptr_t pc)
{
	if (pc >= program.low && pc < program.high)
		return program.id;
	if (!find_object)
		return snapshot_find_or_look(pc);
	struct found_object found;
	if (find_object((void *)pc, &found) != 0)
		return 0;
	uint64_t generation = modules_generation();
	unsigned id = modules_seen_at((uintptr_t)found.map_start, (uintptr_t)found.link_map, (uintptr_t)found.eh_frame, generation);
	if (unlikely(!id))
		id = see_found(&found, generation);
	return id && pc < modules_seen[id].image.high ? id : 0;
}

// ---- cold: the loader's list ---------------------------------------------------------------------------

struct refresh {
	bool changed;
	uint64_t generation;
	struct snapshot *into; // NULL: none wanted
};

static unsigned long long seen_adds, seen_subs; // by the refreshing thread
static bool seen_any;
static uint32_t refreshing; // pid of the process one of whose threads is refreshing; 0 = none
static bool own_snapshots;

static bool list_changed(const struct dl_phdr_info *info, size_t bytes, const struct refresh *refresh)
{
	if (bytes < offsetof(struct dl_phdr_info, dlpi_subs) + sizeof info->dlpi_subs)
		return true;
	bool changed = !seen_any || info->dlpi_adds != seen_adds || info->dlpi_subs != seen_subs;
	if (seen_any && info->dlpi_subs != seen_subs)
		modules_bump_generation();
	seen_adds = info->dlpi_adds;
	seen_subs = info->dlpi_subs;
	seen_any = true;
	return changed || (refresh->into && !snapshot_is_of(modules_generation()));
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
	if (image.low == program.low)
		path = program.path;
	unsigned id = modules_see(&(struct modules_sighting){.image = &image, .path = path, .generation = refresh->generation});
	if (refresh->into && id)
		snapshot_add(refresh->into, image.low, image.high, id);
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
	modules_bump_generation();
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
	long length = sys_readlink("/proc/self/exe", program.path, MODULE_PATH_MAX);
	program.path[length > 0 ? length : 0] = 0;
	if (!phdr || !elf_image_from_phdrs(bias, phdr, count, &image) ||
	    !elf_image_readable(&image, (uintptr_t)phdr, count * sizeof *phdr))
		return; // then it is found like any other object, only not known to be the main one
	program.low = modules_known.main_low = image.low;
	unsigned id = modules_see(&(struct modules_sighting){
	    .image = &image, .path = program.path, .generation = modules_generation()});
	if (!id)
		return;
	program.id = id;
	program.high = image.high; // last: until now modules_find() went the other way
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
	modules_known.vdso = getauxval(AT_SYSINFO_EHDR);
	modules_known.core = (uintptr_t)modules_init;
	long length = sys_call(SYS_getcwd, modules_known.directory, MODULE_PATH_MAX, 0); // with its terminator
	if (length > 1 && modules_known.directory[0] == '/')
		modules_known.directory[length - 1] = '/', modules_known.directory[length] = 0;
	else
		modules_known.directory[0] = 0;
	find_main();
	if (!own_snapshot)
		objects_each(find_loader_function, NULL);
	own_snapshots = find_object == NULL;
	single_threaded = (const char *)objects_symbol("__libc_single_threaded");
	modules_refresh();
}
