// binding.c -- what the loader will bind a call to that it has not bound yet
//
// Context:   cold. No allocation, no lock, no libc call.
// Invariant: where flags that the loader does not publish (RTLD_LOCAL, RTLD_GLOBAL, RTLD_DEEPBIND) could decide,
//            the answer is none.
// Why:       whoever stores another function into a slot than the loader would have makes the program take blocks
//            from one allocator and give them to another.
// Proof:     tests/native/test_slots.c; tests/integration/test_slots.py
#include "binding.h"

#include <link.h>

uintptr_t binding_of(const struct relocs *object, const char *name)
{
	// What was loaded when the program started is searched first for everybody, in the order of the list; and
	// whatever stands in front of the C library was.
	bool at_start = true, object_at_start = false, first_at_start = false;
	uintptr_t first = 0, foreign = 0; // foreign: not one of ours, which end in the same function
	bool several = false;
	for (const struct link_map *map = _r_debug.r_map; map; map = map->l_next) {
		struct elf_image image;
		if (!elf_image_from_dynamic(map->l_addr, map->l_ld, &image))
			continue;
		object_at_start |= at_start && map->l_ld == object->image.dynamic;
		uintptr_t found = elf_image_symbol(&image, name, NULL);
		if (found && !first) {
			first = found;
			first_at_start = at_start;
		}
		if (found && !elf_is_own(found) && map->l_addr != _r_debug.r_ldbase) { // an old loader defines malloc for its own use
			several |= foreign && foreign != found;
			foreign = found;
		}
		if (at_start && elf_image_symbol(&image, "gnu_get_libc_version", NULL))
			at_start = false;
	}
	if (object_at_start && first_at_start && !object->symbolic)
		return first;
	return several ? 0 : foreign ? foreign : first;
}
