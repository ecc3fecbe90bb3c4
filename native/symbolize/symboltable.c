// symboltable.c -- a symbol table, read in parts
//
// Proof: tests/unit/test_symbolize_symbols.py
#include "symboltable.h"

#include <stdlib.h>

#define PART_BYTES (1U << 20)

static struct raw_symbol read_symbol(struct bytes *b, bool narrow)
{
	struct raw_symbol raw = {.name = bytes_u32(b)};
	if (narrow) {
		raw.value = bytes_u32(b);
		raw.size = bytes_u32(b);
	}
	uint8_t info = bytes_u8(b);
	raw.kind = info & 15;
	raw.bind = info >> 4;
	raw.visibility = bytes_u8(b) & 3;
	raw.section = bytes_u16(b);
	if (!narrow) {
		raw.value = bytes_u64(b);
		raw.size = bytes_u64(b);
	}
	return raw;
}

bool symbols_each(const struct section *table, bool narrow, uint32_t most, symbol_visitor visit, void *context)
{
	unsigned width = narrow ? 16 : 24;
	uint8_t *buffer = malloc(PART_BYTES);
	bool good = buffer != NULL;
	uint32_t number = 0;
	for (uint64_t offset = 0; good && number < most;) {
		struct bytes part = section_part(table, offset, PART_BYTES / width * width, buffer);
		uint64_t whole = bytes_left(&part) / width;
		if (!whole)
			break;
		for (uint64_t i = 0; good && i < whole && number < most; i++) {
			struct raw_symbol raw = read_symbol(&part, narrow);
			raw.number = number++;
			good = !raw.number || visit(context, &raw);
		}
		offset += whole * width;
	}
	free(buffer);
	return good;
}
