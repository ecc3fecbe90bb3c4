// fuzz_unwind.c -- walks up a stack of any contents between two pages that fault, from any registers
//
// Input: five bytes a word: what kind it is, and a number. The first three words are pc, sp and bp, the others the stack.
// fuzz: with elfimage cfi dwarf unwind unwind_step unwind_thread modules modules_seen snapshot objects loader stats binding
#include "image_input.h"

#include "modules.h"
#include "unwind.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define WORD_BYTES 5U

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	modules_init(true);
	unwind_init();
	return 0;
}

static uintptr_t word_at(const uint8_t *at)
{
	uint32_t number;
	memcpy(&number, at + 1, sizeof(number));
	unsigned id = 1 + (at[0] >> 3) % (modules_count() - 1);
	const struct elf_image *image = &modules_get(id)->image;
	switch (at[0] & 7) {
	case 0: return number;
	case 1: return (uintptr_t)(intptr_t)(int32_t)number;
	case 2: return (uintptr_t)__builtin_frame_address(0) + number % 65536 - 32768;
	case 3: return INPUT_AT + number % INPUT_BYTES;
	case 4: return INPUT_AT + number % INPUT_BYTES / 8 * 8;
	case 5: return (uint64_t)number << 32 | number;
	}
	return image->text_high > image->text_low ? image->text_low + number % (image->text_high - image->text_low) : number;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint8_t *room = image_input_room();
	if (bytes < 3 * WORD_BYTES || bytes / WORD_BYTES - 3 > INPUT_BYTES / 8)
		return 0;
	size_t words = bytes / WORD_BYTES - 3;
	if (mprotect(room, INPUT_BYTES, PROT_READ | PROT_WRITE) != 0)
		abort();
	uintptr_t *stack = (uintptr_t *)(void *)(room + INPUT_BYTES) - words;
	for (size_t i = 0; i < words; i++)
		stack[i] = word_at(data + (i + 3) * WORD_BYTES);
	uintptr_t low = (uintptr_t)stack, high = INPUT_AT + INPUT_BYTES;
	size_t before = round_down(low, PAGE_BYTES) - INPUT_AT;
	if (before && mprotect(room, before, PROT_NONE) != 0)
		abort();
	struct registers registers = {word_at(data), word_at(data + WORD_BYTES), word_at(data + 2 * WORD_BYTES)};
	uint64_t frames[MAX_FRAMES + 1], hash;
	enum unwind_end end;
	frames[MAX_FRAMES] = 0xAA;
	unsigned count = unwind(&registers, (struct unwind_bounds){low, high}, frames, MAX_FRAMES, &hash, &end);
	if (count == 0 || count > MAX_FRAMES || frames[MAX_FRAMES] != 0xAA || hash != unwind_hash(frames, count) || end > UNWIND_BOUNDS)
		abort();
	return 0;
}
