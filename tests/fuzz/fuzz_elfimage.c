// fuzz_elfimage.c -- what is looked up in a loaded object, whatever its bytes are
// fuzz: with elfimage
#include "image_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void look_up(const struct elf_image *image)
{
	static const char *const names[] = {"malloc", "get", "", "a_function_of_a_rather_long_name", "mine"};
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		size_t size;
		elf_image_symbol(image, names[i], &size);
	}
	if (image->build_id_bytes > ELF_BUILD_ID_MAX || image->range_count > ELF_RANGES || image->low >= image->high)
		abort();
	if (image->eh_frame_hdr && !elf_image_readable(image, (uintptr_t)image->eh_frame_hdr, image->eh_frame_hdr_bytes))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct image_input input;
	struct elf_image image;
	if (!image_input_lay_out(data, bytes, &input))
		return 0;
	if (elf_image_from_header(INPUT_AT, &image))
		look_up(&image);
	if (elf_image_from_phdrs(INPUT_AT, input.phdr, input.count, &image))
		look_up(&image);
	return 0;
}
