// fuzz_relocs.c -- the slots of a loaded object, whatever its bytes are
// fuzz: with elfimage relocs
#include "image_input.h"

#include "relocs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool everything(const char *name) { return name != NULL; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct image_input input;
	struct relocs object;
	struct relocs_cursor cursor = {0, 0};
	struct relocs_slot slot;
	if (!image_input_lay_out(data, bytes, &input) || !relocs_read(INPUT_AT, input.phdr, input.count, &object))
		return 0;
	while (relocs_next(&object, &cursor, everything, &slot)) {
		volatile uintptr_t value = *slot.place; // faults if it is nowhere
		(void)value;
		if (!elf_image_readable(&object.image, (uintptr_t)slot.name, strlen(slot.name) + 1))
			abort();
	}
	return 0;
}
