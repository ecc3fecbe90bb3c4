// test_cfi.c -- damaged unwind tables and hostile expressions: an answer or none, never a fault
//
// That intact tables are understood is shown by test_unwind.c, against libgcc.
#include "harness.h"
#include "image_copy.h"

#include "cfi.h"
#include "dwarf.h"

#include <dlfcn.h>
#include <link.h>

static uint64_t random_state = 0xBE5466CF34E90C6C;
static uint64_t random_u64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545F4914F6CDD1D;
}

static uint8_t evil_byte(void)
{
	switch (random_u64() % 4) {
	case 0: return 0xff;
	case 1: return 0x80;
	case 2: return (uint8_t)(random_u64() % 0x30);
	}
	return (uint8_t)random_u64();
}

static unsigned long statuses[3];

static void look_around(const struct elf_image *image, uintptr_t address)
{
	struct cfi_row row;
	enum cfi_status status = cfi_find_row(image, address, random_u64() % 2 ? 3 : CFI_NO_REGISTER, &row);
	statuses[status]++;
	uintptr_t registers[17], out, initial = random_u64();
	uint64_t stack[16];
	struct dwarf_context context = {.registers = registers,
					.known = (uint32_t)random_u64() & 0x1ffff,
					.stack_low = (uintptr_t)stack,
					.stack_high = (uintptr_t)(stack + 16)};
	for (unsigned i = 0; i < 17; i++)
		registers[i] = (uintptr_t)stack + random_u64() % sizeof stack;
	for (unsigned i = 0; i < 16; i++)
		stack[i] = (uintptr_t)stack + random_u64() % 256 - 64;
	if (status != CFI_FOUND)
		return;
	const struct cfi_rule *rules[4] = {&row.cfa, &row.ra, &row.bp, &row.extra};
	for (unsigned i = 0; i < 4; i++)
		if (rules[i]->kind == CFI_EXPRESSION || rules[i]->kind == CFI_VAL_EXPRESSION)
			dwarf_expression(cfi_code(image, rules[i]), rules[i]->expression_bytes, &context,
					 i ? &initial : NULL, &out);
}

static void test_damaged_tables(const char *path, unsigned rounds)
{
	struct image_copy copy = image_copy_open(path);
	const struct elf_image *image = &copy.image;
	const Elf64_Shdr *index = image_copy_section(&copy, ".eh_frame_hdr"), *frames = image_copy_section(&copy, ".eh_frame");
	for (unsigned round = 0; round < rounds; round++) {
		uintptr_t address = image->text_low + random_u64() % (image->text_high - image->text_low);
		uint8_t *at[24], old[24];
		unsigned changes = 1 + (unsigned)(random_u64() % 24);
		// The entry that covers the address, so that damage is met.
		int64_t wanted = (int64_t)(address - (uintptr_t)image->eh_frame_hdr);
		int32_t *pairs = (int32_t *)(image->eh_frame_hdr + 12);
		size_t low = 0, high = (index->sh_size - 12) / 8;
		while (low < high) {
			size_t middle = (low + high) / 2;
			if (pairs[2 * middle] <= wanted)
				low = middle + 1;
			else
				high = middle;
		}
		uint8_t *entry = low ? (uint8_t *)image->eh_frame_hdr + pairs[2 * low - 1] : NULL;
		for (unsigned i = 0; i < changes; i++) {
			uint64_t where = random_u64() % 8;
			if (where == 0)
				at[i] = (uint8_t *)image->eh_frame_hdr + random_u64() % 12;
			else if (where == 1 && low)
				at[i] = (uint8_t *)&pairs[2 * low - 2] + random_u64() % 8;
			else if (where < 6 && entry)
				at[i] = entry + random_u64() % 40;
			else
				at[i] = (uint8_t *)(copy.bias + frames->sh_addr + random_u64() % (random_u64() % 2 ? 64 : frames->sh_size));
			old[i] = *at[i];
			*at[i] = evil_byte();
		}
		for (unsigned i = 0; i < 4; i++)
			look_around(image, i ? address + random_u64() % 256 : address);
		for (unsigned i = changes; i-- > 0;)
			*at[i] = old[i];
	}
	image_copy_close(&copy);
}

// The table's edges: an entry at the very end of readable memory, a header cut short.
static void test_cut_tables(const char *path)
{
	struct image_copy copy = image_copy_open(path);
	uintptr_t address = (copy.image.text_low + copy.image.text_high) / 2;
	for (size_t bytes = 0; bytes < 200; bytes++) {
		struct elf_image image = copy.image;
		image.eh_frame_hdr_bytes = bytes;
		struct cfi_row row;
		CHECK(cfi_find_row(&image, address, CFI_NO_REGISTER, &row) == CFI_NONE);
	}
	for (unsigned i = 0; i < 20000; i++) {
		struct elf_image image = copy.image;
		for (unsigned r = 0; r < image.range_count; r++)
			if ((uintptr_t)image.eh_frame_hdr - image.readable[r].low < image.readable[r].high - image.readable[r].low)
				image.readable[r].high = (uintptr_t)image.eh_frame_hdr + image.eh_frame_hdr_bytes +
							 random_u64() % (image.readable[r].high - (uintptr_t)image.eh_frame_hdr -
									 image.eh_frame_hdr_bytes);
		look_around(&image, image.text_low + random_u64() % (image.text_high - image.text_low));
	}
	image_copy_close(&copy);
}

static void test_random_expressions(unsigned rounds)
{
	uint64_t memory[64];
	uintptr_t registers[17], out, initial = 7;
	unsigned done[3] = {0};
	for (unsigned round = 0; round < rounds; round++) {
		uint8_t code[24];
		for (unsigned i = 0; i < sizeof code; i++)
			code[i] = random_u64() % 2 ? evil_byte() : (uint8_t)(0x70 + random_u64() % 17);
		for (unsigned i = 0; i < ARRAY_LEN(memory); i++)
			memory[i] = random_u64() % 2 ? (uintptr_t)memory + random_u64() % sizeof memory : random_u64();
		for (unsigned i = 0; i < 17; i++)
			registers[i] = random_u64() % 2 ? (uintptr_t)memory + random_u64() % sizeof memory : random_u64() % 64;
		struct dwarf_context context = {registers, 0x1ffff, (uintptr_t)memory, (uintptr_t)(memory + 64)};
		done[dwarf_expression(code, (unsigned)(random_u64() % sizeof code), &context,
				      random_u64() % 2 ? &initial : NULL, &out)]++;
	}
	CHECK(done[DWARF_DONE] && done[DWARF_BAD] && done[DWARF_OUTSIDE]);
}

static uintptr_t value_of(const uint8_t *code, unsigned bytes)
{
	uintptr_t registers[17] = {0}, out = 0;
	uint64_t memory[2] = {0x1122334455667788, 42};
	registers[6] = (uintptr_t)memory;
	registers[7] = 100;
	registers[16] = 0x1b;
	struct dwarf_context context = {registers, 0x1ffff, (uintptr_t)memory, (uintptr_t)(memory + 2)};
	return dwarf_expression(code, bytes, &context, NULL, &out) == DWARF_DONE ? out : 0xBAD;
}

#define VALUE(...) value_of((const uint8_t[]){__VA_ARGS__}, sizeof(const uint8_t[]){__VA_ARGS__})

static void test_operations(void)
{
	CHECK_EQUAL(VALUE(0x35), 5);
	CHECK_EQUAL(VALUE(0x77, 0x7c), 96);                   // breg7 -4
	CHECK_EQUAL(VALUE(0x76, 8, 0x06), 42);                // breg6 8; deref
	CHECK_EQUAL(VALUE(0x76, 0, 0x94, 2), 0x7788);         // deref_size 2
	CHECK_EQUAL(VALUE(0x76, 9, 0x06), 0xBAD);             // past the end
	CHECK_EQUAL(VALUE(0x38, 0x33, 0x1c), 5);              // 8 - 3
	CHECK_EQUAL(VALUE(0x38, 0x33, 0x1d), 2);              // 8 mod 3
	CHECK_EQUAL(VALUE(0x38, 0x30, 0x1b), 0xBAD);          // 8 / 0
	CHECK_EQUAL(VALUE(0x31, 0x32, 0x33, 0x17), 2);        // rot: 3 1 2, top 2
	CHECK_EQUAL(VALUE(0x31, 0x32, 0x16, 0x13), 2);        // swap drop
	CHECK_EQUAL(VALUE(0x31, 0x32, 0x33, 0x15, 2), 1);     // pick 2
	CHECK_EQUAL(VALUE(0x31, 0x2f, 1, 0, 0x40, 0x35), 5);  // skip over one byte
	CHECK_EQUAL(VALUE(0x35, 0x31, 0x28, 1, 0, 0x40), 5);  // bra taken, to the end
	CHECK_EQUAL(VALUE(0x35, 0x30, 0x28, 1, 0, 0x41), 17); // bra not taken
	CHECK_EQUAL(VALUE(0x2f, 0xfd, 0xff), 0xBAD);          // for ever
	CHECK_EQUAL(VALUE(0x09, 0xff, 0x19), 1);              // abs(-1)
	CHECK_EQUAL(VALUE(0x0a, 0x34, 0x12, 0x23, 0x80, 1), 0x12b4);
	CHECK_EQUAL(VALUE(0x13), 0xBAD);
	// The PLT's own: rsp + 8 + ((rip & 15) >= 11) * 8, for rip & 15 = 11
	CHECK_EQUAL(VALUE(0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22), 116);
}

int main(int argc, char **argv)
{
	unsigned rounds = long_run(argc, argv) ? 1000000 : 50000;
	Dl_info info;
	dladdr(dlsym(RTLD_DEFAULT, "qsort"), &info);
	test_operations();
	test_random_expressions(rounds);
	test_cut_tables(info.dli_fname);
	test_damaged_tables(info.dli_fname, rounds);
	CHECK(statuses[CFI_FOUND] && statuses[CFI_NONE] && statuses[CFI_BAD]);
	printf("rows: %lu found, %lu none, %lu bad\n", statuses[0], statuses[1], statuses[2]);
	return harness_end();
}
