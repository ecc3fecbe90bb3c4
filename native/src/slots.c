// slots.c -- the places where loaded objects keep the addresses of functions they call
//
// Context:   cold. Objects are read and patched inside dl_iterate_phdr(), whose lock keeps them from being
//            unloaded meanwhile. Nothing here allocates, and no lock of ours is waited for.
// Invariant: one aligned word is exchanged per slot, and only over a value that is known: the function behind our
//            hook, or a slot that the loader has not bound and can bind to nothing else. So an object bound to
//            another allocator keeps it, another tool's hook stays, and a variable that the program has set is the
//            program's.
// Why:       dlopen() is not wrapped: it looks at who calls it. New objects show in the loader's counters, and are
//            looked at when their first symbol is asked for (hook_events.c); who asks calls them next, and so waits
//            for one who is scanning already.
// Proof:     tests/native/test_slots.c; tests/integration/test_slots.py, test_import_door.py, test_door_storms.py
#include "slots.h"

#include "atomics.h"
#include "binding.h"
#include "elfimage.h"
#include "loader.h"
#include "modules.h"
#include "objects.h"
#include "pages.h"
#include "patch.h"
#include "relocs.h"
#include "sys.h"
#include "text.h"

#include <link.h>
#include <time.h>

#define ROUNDS_UNPROTECTED 4U // looks at an object that has no RELRO to show that the loader is done with it
#define ROUNDS_PROTECTED 2U
#define TURNS_MOST 4 // at one slot that another thread keeps changing
#define TURN_WAIT_NS 50000
#define TURN_WAITS 2000U // a tenth of a second

static struct slots_table *tables;
static uint64_t filter; // one bit per hash of a name's first three characters

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
	enum { NO_ALLOCATOR, THE_ALLOCATOR, OTHER_ALLOCATOR } allocator; // but the C library, which takes blocks as well
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

struct object {
	struct relocs relocs;
	unsigned id; // 0: not known, nothing is remembered
	int allocator;
	bool loaded; // its loader is done with it
	// found while patching
	uint32_t here, elsewhere, unbound;
	bool refused;
	bool taken;      // by another tool
	bool undecided;  // what a slot will be bound to is not certain
	bool unfinished; // its loader is not done with it, or a slot could not be looked at now
	bool watched;    // the sentinel is of a function whose loss matters most
	uintptr_t sentinel;
	unsigned holder;
};

// ---- names ---------------------------------------------------------------------------------------

static uint64_t filter_bit(const char *name)
{
	unsigned hash = (unsigned char)name[0];
	for (unsigned i = 1; i < 3 && name[i - 1]; i++)
		hash = hash * 5 + (unsigned char)name[i];
	return 1ULL << (hash & 63);
}

void slots_register(struct slots_table *table)
{
	for (unsigned i = 0; i < table->count; i++)
		filter |= filter_bit(table->names[i].name);
	table->next = tables;
	tables = table;
}

static bool may_be_wanted(const char *name) { return filter & filter_bit(name); }

static const struct slots_table *find_name(const char *name, unsigned *index)
{
	if (!may_be_wanted(name))
		return NULL;
	for (const struct slots_table *table = tables; table; table = table->next)
		for (*index = 0; *index < table->count; ++*index)
			if (text_equal(name, table->names[*index].name))
				return table;
	return NULL;
}

static uintptr_t hook_of(const struct slots_table *table, unsigned index, uintptr_t original)
{
	const struct slots_name *name = &table->names[index];
	if (name->original && load_relaxed(name->original) != original)
		return 0;
	return name->hook ? name->hook : table->choose(index, original);
}

static bool is_given(const struct slots_table *table)
{
	return table && (table->meaning == SLOTS_FAMILY || table->meaning == SLOTS_GIVEN);
}

bool slots_is_given(const char *name)
{
	unsigned index;
	return is_given(find_name(name, &index));
}

uintptr_t slots_hook_for(const char *name, uintptr_t original)
{
	unsigned index;
	const struct slots_table *table = find_name(name, &index);
	return is_given(table) ? hook_of(table, index, original) : 0;
}

bool slots_several_allocators(void) { return load_relaxed(&allocators) > 1; }

// ---- one slot ------------------------------------------------------------------------------------

// A program at a fixed address may be everybody's address of a function: its own entry to it, through its own slot.
static bool is_mains_entry(uintptr_t value, unsigned holder)
{
	const struct module *module = modules_get(holder);
	return holder && module->flags & MLF_MODULE_MAIN && module->image.bias == 0 &&
	       value - module->image.text_low < module->image.text_high - module->image.text_low;
}

// A slot that leads neither to us nor to what our hooks call.
static void note_elsewhere(struct object *object, const struct relocs_slot *slot, uintptr_t value)
{
	unsigned holder = modules_find(value);
	if (is_mains_entry(value, holder)) {
		object->here++;
		return;
	}
	// What the loader binds is a function that its object defines under that name; hooks are not, nor is what a
	// program stores in a variable of its own.
	bool bound = holder == object->id || (holder && elf_image_symbol(&modules_get(holder)->image, slot->name, NULL) == value);
	if (slot->kind == RELOCS_VARIABLE && (!bound || holder == object->id))
		return;
	object->elsewhere++;
	object->holder = holder;
	object->taken |= !bound;
}

static void note_held(struct object *object, const struct slots_name *name, const struct relocs_slot *slot)
{
	if (slot->kind == RELOCS_VARIABLE || (object->sentinel && (object->watched || !name->watched)))
		return;
	object->sentinel = (uintptr_t)slot->place;
	object->watched = name->watched;
}

static bool not_relocated_yet(const struct object *object, const struct relocs_slot *slot, uintptr_t value)
{
	const struct elf_image *image = &object->relocs.image;
	return value == 0 || (slot->kind == RELOCS_CALL && image->bias && value < image->low && value < image->high - image->low);
}

// The loader has not bound it, unless it leads to the object's own definition: an object may have one and still be bound
// at the first call (libstdc++ is).
static bool is_unbound(const struct object *object, const struct relocs_slot *slot, uintptr_t value)
{
	const struct elf_image *image = &object->relocs.image;
	return slot->kind == RELOCS_CALL && value >= image->low && value < image->high && value != slot->own;
}

// What the loader will choose is not certain: look again until it has.
static void note_undecided(struct object *object, const struct slots_table *table, const char *name)
{
	object->undecided = true;
	if (table->meaning != SLOTS_FAMILY)
		return;
	// Preloaded, we are the first it comes by, but for objects loaded with RTLD_DEEPBIND.
	bool to_us = elf_is_own(elf_global_symbol(name));
	object->here += to_us;
	object->unbound += !to_us;
}

// The loader has left it empty, once it is done with the object; an object that it is not done with is looked at again.
static void fill_slot(struct object *object, const struct slots_name *name, const struct relocs_slot *slot)
{
	uintptr_t value = load_relaxed(slot->place);
	if (!slot->weak || elf_is_own(value) || (value && !is_unbound(object, slot, value)) || !slot->writable)
		return;
	bool relro = relocs_in_relro(&object->relocs, (uintptr_t)slot->place);
	if (patch_word(slot->place, value, name->hook, relro) == PATCH_LATER)
		object->unfinished = true;
}

// False: its value has changed meanwhile.
static bool look_at_slot(struct object *object, const struct slots_table *table, unsigned index, const struct relocs_slot *slot)
{
	const struct slots_name *name = &table->names[index];
	bool told = table->meaning == SLOTS_FAMILY || table->meaning == SLOTS_NEW; // in coverage
	uintptr_t value = load_relaxed(slot->place), original = value;
	if (not_relocated_yet(object, slot, value)) {
		object->unfinished |= !slot->weak && slot->kind != RELOCS_VARIABLE; // else absent, or the program's
		return true;
	}
	if (elf_is_own(value)) {
		object->here += told;
		note_held(object, name, slot);
		return true;
	}
	bool unbound = is_unbound(object, slot, value);
	if (unbound) {
		original = binding_of(&object->relocs, slot->name);
		if (!original) {
			note_undecided(object, table, slot->name);
			return true;
		}
		if (elf_is_own(original) && name->original)
			original = load_relaxed(name->original);
	}
	uintptr_t hook = hook_of(table, index, original);
	if (!hook || hook == original) {
		if (told)
			note_elsewhere(object, slot, original);
		return true;
	}
	enum patch_result result = slot->writable ? patch_word(slot->place, value, hook, relocs_in_relro(&object->relocs, (uintptr_t)slot->place))
						  : PATCH_REFUSED;
	object->refused |= told && (result == PATCH_REFUSED || result == PATCH_LEFT_OPEN);
	object->unfinished |= result == PATCH_LATER;
	if (result == PATCH_DONE || result == PATCH_LEFT_OPEN) {
		object->here += told;
		if (!unbound) // a call under way may yet bind it: that is no other tool
			note_held(object, name, slot);
	}
	return result != PATCH_CHANGED;
}

// ---- one object ----------------------------------------------------------------------------------

static bool read_object(const struct dl_phdr_info *info, struct object *out)
{
	*out = (struct object){0};
	if (!relocs_read(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum, &out->relocs))
		return false;
	out->id = modules_find(out->relocs.image.text_low);
	return true;
}

static void look_at_object(struct object *object)
{
	struct relocs_cursor cursor = {0, 0};
	struct relocs_slot slot;
	while (relocs_next(&object->relocs, &cursor, may_be_wanted, &slot)) {
		unsigned index;
		const struct slots_table *table = find_name(slot.name, &index);
		if (!table || (object->allocator != NO_ALLOCATOR && (table->meaning == SLOTS_FAMILY || table->meaning == SLOTS_MAPPINGS)))
			continue;
		if (table->meaning == SLOTS_OFFERED) {
			fill_slot(object, &table->names[index], &slot);
			continue;
		}
		int turns = 0;
		while (!look_at_slot(object, table, index, &slot) && ++turns < TURNS_MOST)
			;
		object->unfinished |= turns == TURNS_MOST;
	}
}

static enum mlf_coverage coverage_of(const struct object *object)
{
	if (object->allocator == OTHER_ALLOCATOR)
		return MLF_COVERAGE_ALLOCATOR;
	if (object->refused)
		return MLF_COVERAGE_PROTECTED;
	if (object->elsewhere)
		return object->taken ? MLF_COVERAGE_OTHER_TOOL : MLF_COVERAGE_OTHER_ALLOCATOR;
	if (object->unbound)
		return MLF_COVERAGE_UNBOUND;
	return object->here ? MLF_COVERAGE_HOOKED : MLF_COVERAGE_NONE;
}

// Our hook is gone from a slot. Has it been replaced, or did the object go and come back?
static bool was_displaced(const struct state *state, const struct object *object, const struct pass *pass)
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

static void remember(struct state *state, const struct object *object, struct pass *pass)
{
	enum mlf_coverage coverage = coverage_of(object);
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
	struct object object;
	if (pass->how != SLOTS_ALL && is_as_it_was(info))
		return 0;
	if (!read_object(info, &object) || !object.relocs.image.dynamic || elf_is_own(object.relocs.image.low))
		return 0;
	struct state *state = &states[object.id];
	if (object.id && state->pass && !holds_hook(state, &object.relocs.image) &&
	    elf_image_readable(&object.relocs.image, state->sentinel, sizeof(uintptr_t)))
		pass->displaced |= was_displaced(state, &object, pass);
	state->pass = passes;
	object.allocator = state->allocator;
	const struct relocs *relocs = &object.relocs; // before its slots are read:
	object.loaded = relocs->relro_low < relocs->relro_high && pages_look(relocs->relro_low) == PAGES_PROTECTED;
	look_at_object(&object);
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
	struct object object;
	// An old loader defines malloc for its own use.
	if (!read_object(info, &object) || !object.id || elf_is_own(object.relocs.image.low) || info->dlpi_addr == _r_debug.r_ldbase)
		return 0;
	struct state *state = &states[object.id];
	if (!state->surveyed) {
		uintptr_t its_malloc = elf_image_symbol(&object.relocs.image, "malloc", NULL);
		state->defines_malloc = its_malloc != 0;
		if (its_malloc && !elf_image_symbol(&object.relocs.image, "gnu_get_libc_version", NULL))
			state->allocator = slots_hook_for("malloc", its_malloc) ? THE_ALLOCATOR : OTHER_ALLOCATOR;
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
