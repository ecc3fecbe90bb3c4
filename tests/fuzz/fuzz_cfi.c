// fuzz_cfi.c -- unwind tables of any bytes, and the expressions in what they say
//
// Input: where the table begins (2 bytes), a place in the code (2), a register (1), and the memory that holds the table,
// which ends where the object's readable memory does.
// fuzz: with elfimage cfi dwarf
#include "image_input.h"

#include "cfi.h"
#include "dwarf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define HEAD_BYTES 5U
#define CODE_BYTES 65536U

static void evaluate(const struct elf_image *image, const struct cfi_rule *rule, bool with_initial)
{
	static uint64_t memory[32];
	uintptr_t registers[17], out, initial = (uintptr_t)(memory + 8);
	if (rule->kind != CFI_EXPRESSION && rule->kind != CFI_VAL_EXPRESSION)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(memory); i++)
		memory[i] = (uintptr_t)memory + i * 24;
	for (unsigned i = 0; i < ARRAY_LEN(registers); i++)
		registers[i] = (uintptr_t)memory + i * 8;
	struct dwarf_context context = {registers, 0x1ffff, (uintptr_t)memory, (uintptr_t)(memory + ARRAY_LEN(memory))};
	dwarf_expression(cfi_code(image, rule), rule->expression_bytes, &context, with_initial ? &initial : NULL, &out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint8_t *room = image_input_room();
	if (bytes < HEAD_BYTES || bytes > INPUT_BYTES)
		return 0;
	size_t table_bytes = bytes - HEAD_BYTES, begin = data[0] | (size_t)data[1] << 8;
	if (mprotect(room, INPUT_BYTES, PROT_READ | PROT_WRITE) != 0)
		abort();
	uint8_t *table = room + INPUT_BYTES - table_bytes;
	uintptr_t low = round_down((uintptr_t)table, PAGE_BYTES), end = (uintptr_t)room + INPUT_BYTES;
	memcpy(table, data + HEAD_BYTES, table_bytes);
	if (begin > table_bytes)
		begin = table_bytes;
	// The code comes behind the table: nothing of it is read.
	struct elf_image image = {.bias = low,
				  .low = low,
				  .high = end + CODE_BYTES,
				  .text_low = end,
				  .text_high = end + CODE_BYTES,
				  .eh_frame_hdr = table + begin,
				  .eh_frame_hdr_bytes = table_bytes - begin,
				  .range_count = 1,
				  .readable = {{low, end}}};
	size_t before = low - (uintptr_t)room;
	if (before && mprotect(room, before, PROT_NONE) != 0)
		abort();
	struct cfi_row row;
	if (cfi_find_row(&image, end + (data[2] | (uintptr_t)data[3] << 8), data[4] % 17 ? data[4] % 17 : CFI_NO_REGISTER, &row) == CFI_FOUND) {
		evaluate(&image, &row.cfa, false);
		evaluate(&image, &row.ra, true);
		evaluate(&image, &row.bp, true);
		evaluate(&image, &row.extra, true);
	}
	return 0;
}
