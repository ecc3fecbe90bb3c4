// slots.c -- the scan: every loaded object, looked at until nothing more will change in it
//
// Context:   cold. Objects are read and patched inside dl_iterate_phdr(), whose lock keeps them from being
//            unloaded meanwhile. Nothing here allocates, and no lock of ours is waited for.
// Invariant: what is remembered of an object is of its module id, and of the loader's count of unloads when it was looked at:
//            an object that went and came back is met as new.
// Why:       dlopen() is not wrapped: it looks at who calls it. New objects show in the loader's counters, and are
//            looked at when their first symbol is asked for (hook_events.c); who asks calls them next, and so waits
//            for one who is scanning already.
// Proof:     tests/native/test_slots.c; tests/integration/test_slots.py, test_import_door.py, test_door_storms.py
#include "slots.h"

#include "atomics.h"
#include "elfimage.h"
#include "loader.h"
#include "modules.h"
#include "objects.h"
#include "pages.h"
#include "slots_object.h"
#include "sys.h"

#include <link.h>
#include <time.h>

#define ROUNDS_UNPROTECTED 4U // looks at an object that has no RELRO to show that the loader is done with it
#define ROUNDS_PROTECTED 2U
#define TURN_WAIT_NS 50000
#define TURN_WAITS 2000U // a tenth of a second

// What is known of a loaded object; by module id, which stays for an object that comes back to its place.
static struct state {
	uintptr_t sentinel; // a slot that holds a hook of ours; 0: none
	unsigned long long unloads; // the loader's count when it was looked at
	uint32_t pass;      // the last one that met it
	uint32_t here, elsewhere;
	uint16_t holder;
	uint8_t coverage; // enum mlf_coverage
	uint8_t rounds;   // looks since it was first met and since anything was unloaded
	bool settled;     // nothing will change by itself
	bool taken;       // a slot held another tool's hook
	bool surveyed;    // the next two are known
	bool defines_malloc;
	enum slots_allocator allocator;
} states[MODULES_MAX];

static uint32_t allocators; // loaded objects that define malloc, but ours and the loader
static uint32_t unsettled;
static unsigned long long seen_adds, seen_subs;
static uint32_t scanning; // pid of the process one of whose threads scans; 0 = none
static uint32_t requests; // so that the one who scans sees that another wanted to
static uint32_t answered; // requests up to this one came before a scan began that has ended
static uint32_t in_vain = UINT32_MAX; // `answered` when one who waited for more gave up
static uint32_t passes;

struct pass {
	enum slots_how how;
	bool unchanged, displaced, looked;
	unsigned long long adds, subs;
	uint32_t allocators, unsettled;
};

bool slots_several_allocators(void) { return load_relaxed(&allocators) > 1; }

// Our hook is gone from a slot. Has it been replaced, or did the object go and come back?
static bool was_displaced(const struct state *state, const struct slots_object *object, const struct pass *pass)
{
	if (state->unloads == pass->subs)
		return true;
	uintptr_t value = load_relaxed((const uintptr_t *)state->sentinel);
	unsigned holder = modules_find(value);
	return holder && holder != object->id && !states[holder].defines_malloc;
}

static bool holds_hook(const struct state *state, const struct elf_image *image)
{
	if (!state->sentinel)
		return true;
	return elf_image_readable(image, state->sentinel, sizeof(uintptr_t)) &&
	       elf_is_own(load_relaxed((const uintptr_t *)state->sentinel));
}

// Nearly every object at nearly every look: known, hooked, and still so.
static bool is_as_it_was(const struct dl_phdr_info *info)
{
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
			continue;
		unsigned id = modules_find(info->dlpi_addr + p->p_vaddr);
		struct state *state = &states[id];
		if (!id || !state->pass || !state->settled || !holds_hook(state, &modules_get(id)->image))
			return false;
		state->pass = passes;
		return true;
	}
	return false;
}

static void remember(struct state *state, const struct slots_object *object, struct pass *pass)
{
	enum mlf_coverage coverage = slots_coverage_of(object);
	// What a tool has taken is out of our sight; and was until now, if it has given it back.
	pass->displaced |= state->rounds && state->taken != object->taken;
	state->taken = object->taken;
	state->coverage = (uint8_t)coverage;
	state->here = object->here;
	state->elsewhere = object->elsewhere + object->unbound;
	state->holder = (uint16_t)object->holder;
	state->sentinel = object->sentinel;
	if (state->unloads != pass->subs) // it may have gone and come back, and its loader be at work again
		state->rounds = 0;
	state->unloads = pass->subs;
	if (state->rounds < UINT8_MAX)
		state->rounds++;
	bool enough = state->rounds >= (object->loaded ? ROUNDS_PROTECTED : ROUNDS_UNPROTECTED) && !object->unfinished;
	bool in_sight = !object->elsewhere && !object->undecided; // else it is looked at anyway
	state->settled = enough && in_sight;
	pass->unsettled += !enough && in_sight;
}

static int patch_listed(struct dl_phdr_info *info, size_t size, void *context)
{
	(void)size;
	struct pass *pass = context;
	struct slots_object object;
	if (pass->how != SLOTS_ALL && is_as_it_was(info))
		return 0;
	if (!slots_read_object(info, &object) || !object.relocs.image.dynamic || elf_is_own(object.relocs.image.low))
		return 0;
	struct state *state = &states[object.id];
	if (object.id && state->pass && !holds_hook(state, &object.relocs.image) &&
	    elf_image_readable(&object.relocs.image, state->sentinel, sizeof(uintptr_t)))
		pass->displaced |= was_displaced(state, &object, pass);
	state->pass = passes;
	object.allocator = state->allocator;
	const struct relocs *relocs = &object.relocs; // before its slots are read:
	object.loaded = relocs->relro_low < relocs->relro_high && pages_look(relocs->relro_low) == PAGES_PROTECTED;
	slots_look_at_object(&object);
	pass->looked = true;
	if (object.id)
		remember(state, &object, pass);
	else if (modules_count() < MODULES_MAX)
		pass->unsettled++; // listed, but its loader has not come to the point where it can be found
	return 0;
}

// ---- all objects ---------------------------------------------------------------------------------

// The first object is enough to see whether any came or went.
static int count_listed(struct dl_phdr_info *info, size_t size, void *context)
{
	struct pass *pass = context;
	if (size < offsetof(struct dl_phdr_info, dlpi_subs) + sizeof(info->dlpi_subs))
		return 1;
	pass->adds = info->dlpi_adds;
	pass->subs = info->dlpi_subs;
	pass->unchanged = passes && pass->adds == seen_adds && pass->subs == seen_subs;
	return 1;
}

// Who defines malloc?
static int survey_listed(struct dl_phdr_info *info, size_t size, void *context)
{
	(void)size;
	struct pass *pass = context;
	struct slots_object object;
	// An old loader defines malloc for its own use.
	if (!slots_read_object(info, &object) || !object.id || elf_is_own(object.relocs.image.low) || info->dlpi_addr == _r_debug.r_ldbase)
		return 0;
	struct state *state = &states[object.id];
	if (!state->surveyed) {
		uintptr_t its_malloc = elf_image_symbol(&object.relocs.image, "malloc", NULL);
		state->defines_malloc = its_malloc != 0;
		if (its_malloc && !elf_image_symbol(&object.relocs.image, "gnu_get_libc_version", NULL))
			state->allocator = slots_hook_for("malloc", its_malloc) ? SLOTS_THE_ALLOCATOR : SLOTS_OTHER_ALLOCATOR;
		state->surveyed = true;
	}
	pass->allocators += state->defines_malloc;
	return 0;
}

static void forget_unloaded(void)
{
	for (unsigned id = 1; id < modules_count(); id++) {
		struct state *state = &states[id];
		if (state->pass == 0 || state->pass == passes)
			continue;
		*state = (struct state){.coverage = MLF_COVERAGE_GONE,
					.surveyed = state->surveyed,
					.defines_malloc = state->defines_malloc,
					.allocator = state->allocator};
	}
}

static void scan_once(enum slots_how how, struct slots_result *result)
{
	struct pass pass = {.how = how};
	if (!objects_try_each(count_listed, &pass))
		return;
	if (pass.unchanged && how == SLOTS_IF_CHANGED && !unsettled)
		return;
	modules_refresh();
	if (!pass.unchanged) {
		if (!objects_try_each(survey_listed, &pass))
			return;
		store_relaxed(&allocators, pass.allocators); // relaxed: a hint to dlsym's hook, and this thread's own
	}
	passes++;
	if (!objects_try_each(patch_listed, &pass))
		return;
	forget_unloaded();
	seen_adds = pass.adds;
	seen_subs = pass.subs;
	unsettled = pass.unsettled;
	result->looked |= pass.looked;
	result->displaced |= pass.displaced;
}

// Another thread scans, and may be past what this one has just loaded and is about to call. False: it has left off
// without another look. Not for ever, and nobody after one who waited in vain: the program may be in dl_iterate_phdr()
// itself while it asks for a symbol, and then the one who scans waits for this very thread.
static bool was_answered(uint32_t request, uint32_t self)
{
	static const struct timespec pause = {.tv_nsec = TURN_WAIT_NS};
	for (unsigned waits = 0;; waits++) {
		bool scans = load_acquire(&scanning) == self;
		uint32_t last = load_acquire(&answered); // pairs with slots_scan(), as the one before
		if ((int32_t)(last - request) >= 0 || last == load_relaxed(&in_vain))
			return true;
		if (!scans)
			return false;
		if (waits == TURN_WAITS)
			store_relaxed(&in_vain, last); // relaxed: a hint
		sys_call(SYS_nanosleep, &pause, 0, 0);
	}
}

struct slots_result slots_scan(enum slots_how how)
{
	struct slots_result result = {false, false};
	if (loader_lock_may_be_lost())
		return result;
	uint32_t self = (uint32_t)sys_getpid();
	// Relaxed: read again by who holds `scanning`, after giving it back.
	uint32_t request = add_relaxed(&requests, 1) + 1;
	for (int turn = 0; turn < 8; turn++) {
		uint32_t holder = load_relaxed(&scanning), seen = load_relaxed(&requests);
		if (holder == self && how == SLOTS_IF_CHANGED && !was_answered(request, self))
			continue;
		// A holder that did not survive a fork is recognised by its pid. Pairs with the release below.
		if (holder == self || !cas_acq_rel(&scanning, &holder, self))
			break;
		scan_once(how, &result);
		store_release(&answered, seen);
		store_release(&scanning, 0);
		if (load_relaxed(&requests) == seen)
			break;
	}
	return result;
}

bool slots_coverage(unsigned id, struct catalog_coverage *out)
{
	if (id >= MODULES_MAX || !states[id].coverage)
		return false;
	// Words written by who scans: a reader may mix two looks, and gets the newer at its next one.
	*out = (struct catalog_coverage){states[id].coverage, states[id].here, states[id].elsewhere, states[id].holder};
	return true;
}
