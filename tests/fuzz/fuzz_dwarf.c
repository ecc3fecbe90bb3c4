// fuzz_dwarf.c -- expressions of any bytes over a small stack between two pages that fault
//
// Input: which registers are known (4 bytes), whether there is a first value (1), and the expression.
// fuzz: with dwarf elfimage
#include "image_input.h"

#include "dwarf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define STACK_BYTES 256U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static uint8_t *page;
	if (!page) {
		page = mmap(NULL, 3 * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED || mprotect(page += PAGE_BYTES, PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
			abort();
	}
	if (bytes < 5)
		return 0;
	// At one end of the page or the other; the expression in memory of its own size, which AddressSanitizer guards.
	bool at_end = data[4] & 2;
	uint64_t *stack = (uint64_t *)(void *)(at_end ? page + PAGE_BYTES - STACK_BYTES : page);
	uintptr_t registers[32], out, initial = (uintptr_t)stack + 16;
	for (unsigned i = 0; i < STACK_BYTES / 8; i++)
		stack[i] = (uintptr_t)stack + 8 * (i * 7 % 40);
	for (unsigned i = 0; i < ARRAY_LEN(registers); i++)
		registers[i] = (uintptr_t)stack + i * 10;
	uint32_t known;
	memcpy(&known, data, sizeof(known));
	size_t code_bytes = bytes - 5;
	uint8_t *code = malloc(code_bytes ? code_bytes : 1);
	if (!code)
		return 0;
	memcpy(code, data + 5, code_bytes);
	struct dwarf_context context = {registers, known, (uintptr_t)stack, (uintptr_t)stack + STACK_BYTES};
	dwarf_expression(code, (unsigned)code_bytes, &context, data[4] & 1 ? &initial : NULL, &out);
	free(code);
	return 0;
}
