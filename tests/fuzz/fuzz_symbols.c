// fuzz_symbols.c -- symbol tables of any bytes
//
// Input: whether its entries are those of 32-bit programs (1 byte), a section (1), how many bytes of symbols, strings and versions there
// are (2 each), these, limits of sections (8 each, the first three), and addresses (8 each).
// fuzz: with symbolize/*
#include "mlsym.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define HEAD_BYTES 8U
#define LIMITS 3U
#define ADDRESSES_MOST 64U

#define check(holds)                                                                                                   \
	do {                                                                                                           \
		if (!(holds)) {                                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #holds);                                    \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

// A part in memory of its own size, which AddressSanitizer guards.
static struct mlsym_section take(const uint8_t **data, size_t *left, size_t wanted)
{
	size_t size = wanted < *left ? wanted : *left;
	uint8_t *own = malloc(size ? size : 1);
	check(own != NULL);
	memcpy(own, *data, size);
	*data += size;
	*left -= size;
	return (struct mlsym_section){.fd = -1, .size = size, .memory = own};
}

static uint32_t take_addresses(const uint8_t *data, size_t left, uint64_t *address)
{
	uint32_t count = 0;
	for (; count < ADDRESSES_MOST && left >= 8; data += 8, left -= 8) {
		memcpy(&address[count], data, 8);
		if (!count || address[count] > address[count - 1])
			count++;
	}
	return count;
}

static void check_text(const struct mlsym_names *names, uint32_t offset)
{
	check(offset < names->text_bytes && memchr(names->text + offset, 0, names->text_bytes - offset));
}

static void by_size(const struct mlsym_symbol_table *table, const uint64_t *address, uint32_t count)
{
	static const int no_files[] = {-1, -1};
	mlsym_symbols *symbols = mlsym_symbols_open();
	check(symbols != NULL);
	mlsym_symbols_add(symbols, table);
	mlsym_symbols_add(symbols, table);
	struct mlsym_names *names = mlsym_symbols_lookup(symbols, no_files, address, count);
	check(names != NULL);
	for (uint64_t i = 0; i < names->count; i++) {
		check(names->symbols[i].address < count);
		check(!i || names->symbols[i].address >= names->symbols[i - 1].address);
		check_text(names, names->symbols[i].name);
		check_text(names, names->symbols[i].file);
	}
	mlsym_names_free(names);
	mlsym_symbols_close(symbols);
}

static void by_nearest(const struct mlsym_symbol_table *table, uint32_t section, const uint64_t *address, uint32_t count)
{
	struct mlsym_nearest found[ADDRESSES_MOST];
	uint64_t entries = table->symbols.size / (table->narrow ? 16 : 24);
	if (mlsym_find_nearest(&table->symbols, table->narrow, section, 0, address, count, found) != 0)
		return;
	for (uint32_t i = 0; i < count; i++)
		check(!found[i].number || (found[i].number < entries && found[i].start <= address[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (bytes < HEAD_BYTES)
		return 0;
	size_t left = bytes - HEAD_BYTES, sizes[3];
	uint32_t section = data[1];
	struct mlsym_symbol_table table = {.narrow = data[0] & 1, .limits = LIMITS};
	for (unsigned i = 0; i < 3; i++)
		sizes[i] = data[2 + 2 * i] | (size_t)data[3 + 2 * i] << 8;
	data += HEAD_BYTES;
	table.symbols = take(&data, &left, sizes[0]);
	table.strings = take(&data, &left, sizes[1]);
	table.versions = take(&data, &left, sizes[2]);
	struct mlsym_section limits = take(&data, &left, LIMITS * 8);
	uint64_t limit[LIMITS] = {0}, address[ADDRESSES_MOST];
	memcpy(limit, limits.memory, limits.size);
	table.limit = limit;
	uint32_t count = take_addresses(data, left, address);
	if (count) {
		by_size(&table, address, count);
		by_nearest(&table, section, address, count);
	}
	free((void *)(uintptr_t)table.symbols.memory);
	free((void *)(uintptr_t)table.strings.memory);
	free((void *)(uintptr_t)table.versions.memory);
	free((void *)(uintptr_t)limits.memory);
	return 0;
}
