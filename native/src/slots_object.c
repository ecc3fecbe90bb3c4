// slots_object.c -- the slots of one loaded object: hooked, left alone, or to be looked at again
//
// Context:   cold, inside dl_iterate_phdr(), whose lock keeps the object from being unloaded meanwhile.
// Invariant: one aligned word is exchanged per slot, and only over a value that is known: the function behind our
//            hook, or a slot that the loader has not bound and can bind to nothing else. So an object bound to
//            another allocator keeps it, another tool's hook stays, and a variable that the program has set is the
//            program's.
// Why:       what a slot holds is the only thing that tells whose function the object calls.
// Proof:     tests/native/test_slots.c; tests/integration/test_slots.py, test_fixed_address.py
#include "slots_object.h"

#include "atomics.h"
#include "binding.h"
#include "modules.h"
#include "patch.h"

#define TURNS_MOST 4 // at one slot that another thread keeps changing

// A program at a fixed address may be everybody's address of a function: its own entry to it, through its own slot.
static bool is_mains_entry(uintptr_t value, unsigned holder)
{
	const struct module *module = modules_get(holder);
	return holder && module->flags & MLF_MODULE_MAIN && module->image.bias == 0 &&
	       value - module->image.text_low < module->image.text_high - module->image.text_low;
}

// A slot that leads neither to us nor to what our hooks call.
static void note_elsewhere(struct slots_object *object, const struct relocs_slot *slot, uintptr_t value)
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

static void note_held(struct slots_object *object, const struct slots_name *name, const struct relocs_slot *slot)
{
	if (slot->kind == RELOCS_VARIABLE || (object->sentinel && (object->watched || !name->watched)))
		return;
	object->sentinel = (uintptr_t)slot->place;
	object->watched = name->watched;
}

static bool not_relocated_yet(const struct slots_object *object, const struct relocs_slot *slot, uintptr_t value)
{
	const struct elf_image *image = &object->relocs.image;
	return value == 0 || (slot->kind == RELOCS_CALL && image->bias && value < image->low && value < image->high - image->low);
}

// The loader has not bound it, unless it leads to the object's own definition: an object may have one and still be bound
// at the first call (libstdc++ is).
static bool is_unbound(const struct slots_object *object, const struct relocs_slot *slot, uintptr_t value)
{
	const struct elf_image *image = &object->relocs.image;
	return slot->kind == RELOCS_CALL && value >= image->low && value < image->high && value != slot->own;
}

// What the loader will choose is not certain: look again until it has.
static void note_undecided(struct slots_object *object, const struct slots_table *table, const char *name)
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
static void fill_slot(struct slots_object *object, const struct slots_name *name, const struct relocs_slot *slot)
{
	uintptr_t value = load_relaxed(slot->place);
	if (!slot->weak || elf_is_own(value) || (value && !is_unbound(object, slot, value)) || !slot->writable)
		return;
	bool relro = relocs_in_relro(&object->relocs, (uintptr_t)slot->place);
	if (patch_word(slot->place, value, name->hook, relro) == PATCH_LATER)
		object->unfinished = true;
}

// False: its value has changed meanwhile.
static bool look_at_slot(struct slots_object *object, const struct slots_table *table, unsigned index, const struct relocs_slot *slot)
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
	uintptr_t hook = slots_hook_of(table, index, original);
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

bool slots_read_object(const struct dl_phdr_info *info, struct slots_object *out)
{
	*out = (struct slots_object){0};
	if (!relocs_read(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum, &out->relocs))
		return false;
	out->id = modules_find(out->relocs.image.text_low);
	return true;
}

void slots_look_at_object(struct slots_object *object)
{
	struct relocs_cursor cursor = {0, 0};
	struct relocs_slot slot;
	while (relocs_next(&object->relocs, &cursor, slots_may_be_wanted, &slot)) {
		unsigned index;
		const struct slots_table *table = slots_find_name(slot.name, &index);
		if (!table || (object->allocator != SLOTS_NO_ALLOCATOR && (table->meaning == SLOTS_FAMILY || table->meaning == SLOTS_MAPPINGS)))
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

enum mlf_coverage slots_coverage_of(const struct slots_object *object)
{
	if (object->allocator == SLOTS_OTHER_ALLOCATOR)
		return MLF_COVERAGE_ALLOCATOR;
	if (object->refused)
		return MLF_COVERAGE_PROTECTED;
	if (object->elsewhere)
		return object->taken ? MLF_COVERAGE_OTHER_TOOL : MLF_COVERAGE_OTHER_ALLOCATOR;
	if (object->unbound)
		return MLF_COVERAGE_UNBOUND;
	return object->here ? MLF_COVERAGE_HOOKED : MLF_COVERAGE_NONE;
}
