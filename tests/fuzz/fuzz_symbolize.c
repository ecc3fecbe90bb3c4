// fuzz_symbolize.c -- debug information of any bytes, in up to three files
//
// Input: pieces, each a kind (1 byte), a length (2) and so many bytes. Kinds 0 to 9 are the sections of the program in the order of
// mlsym.h, 10 to 19 those of a split file, 20 to 29 of a shared one; 30 are addresses of eight bytes, 31 is what may be read, 32 what
// was learned before, 33 the index of a package, which the split file then is.
// fuzz: with symbolize/*
#include "mlsym.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define FILES 3U
#define PIECES (FILES * MLSYM_SECTIONS)
#define ADDRESSES 30U
#define WORK 31U
#define LEARNED 32U
#define PACKAGE 33U
#define ADDRESSES_MOST 64U
#define WORK_MOST (1U << 20)
#define SPLITS_MOST 4U
#define DEPTH_MOST 256U

struct input {
	struct mlsym_section section[PIECES], learned, package;
	uint64_t address[ADDRESSES_MOST];
	uint32_t addresses;
	uint64_t work;
};

// ---- the input -----------------------------------------------------------------------------------

// In memory of its own size, which AddressSanitizer guards.
static void take_section(struct mlsym_section *section, const uint8_t *data, size_t bytes)
{
	uint8_t *own = malloc(bytes ? bytes : 1);
	if (!own)
		abort();
	memcpy(own, data, bytes);
	free((void *)(uintptr_t)section->memory);
	*section = (struct mlsym_section){.fd = -1, .size = bytes, .memory = own};
}

// Keeps them in ascending order, each once.
static void take_address(struct input *input, uint64_t address)
{
	uint32_t at = 0;
	while (at < input->addresses && input->address[at] < address)
		at++;
	if (input->addresses == ADDRESSES_MOST || (at < input->addresses && input->address[at] == address))
		return;
	memmove(&input->address[at + 1], &input->address[at], (input->addresses - at) * sizeof(address));
	input->address[at] = address;
	input->addresses++;
}

static void take_input(struct input *input, const uint8_t *data, size_t bytes)
{
	*input = (struct input){.work = WORK_MOST};
	for (unsigned i = 0; i < PIECES; i++)
		input->section[i].fd = -1;
	input->learned.fd = input->package.fd = -1;
	while (bytes >= 3) {
		unsigned kind = data[0];
		size_t length = data[1] | (size_t)data[2] << 8;
		data += 3;
		bytes -= 3;
		length = length < bytes ? length : bytes;
		if (kind < PIECES)
			take_section(&input->section[kind], data, length);
		if (kind == LEARNED || kind == PACKAGE)
			take_section(kind == LEARNED ? &input->learned : &input->package, data, length);
		for (size_t at = 0; kind == ADDRESSES && at + 8 <= length; at += 8) {
			uint64_t address;
			memcpy(&address, data + at, sizeof(address));
			take_address(input, address);
		}
		if (kind == WORK && length >= 2)
			input->work = data[0] | (uint64_t)data[1] << 8;
		data += length;
		bytes -= length;
	}
}

// ---- the answer ----------------------------------------------------------------------------------

#define check(holds)                                                                                                   \
	do {                                                                                                           \
		if (!(holds)) {                                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #holds);                                    \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static void check_text(const struct mlsym_result *result, uint32_t offset)
{
	check(offset < result->text_bytes && memchr(result->text + offset, 0, result->text_bytes - offset));
}

static void check_result(const struct input *input, const struct mlsym_result *result)
{
	uint32_t depth = 0;
	for (uint64_t i = 0; i < result->frame_count; i++) {
		const struct mlsym_frame *frame = &result->frames[i];
		bool goes_on = i + 1 < result->frame_count && result->frames[i + 1].address == frame->address;
		check(frame->address < input->addresses);
		check(i + 1 == result->frame_count || result->frames[i + 1].address >= frame->address);
		depth++;
		check(depth <= DEPTH_MOST && (goes_on == !!(frame->flags & MLSYM_INLINED) || depth == DEPTH_MOST));
		check_text(result, frame->function);
		check_text(result, frame->file);
		if (!goes_on)
			depth = 0;
	}
	for (uint64_t i = 0; i < result->split_count; i++) {
		check_text(result, result->splits[i].name);
		check_text(result, result->splits[i].directory);
	}
}

// Of what is broken more may be found the second time, by what was learned the first time: the same is asked of sound files only, in
// tests/unit/test_symbolize_dwarf.py.
static void check_lookup(mlsym *handle, const struct input *input)
{
	struct mlsym_result *result = mlsym_lookup(handle, input->address, input->addresses, input->work);
	check(result != NULL);
	check_result(input, result);
	mlsym_result_free(result);
}

// What was learned is given to a handle that was not there.
static void check_learned(mlsym *handle, const struct input *input)
{
	uint64_t bytes = 0;
	unsigned char *learned = mlsym_export(handle, &bytes);
	if (!learned)
		return;
	mlsym *other = mlsym_open(input->section);
	check(other != NULL);
	mlsym_attach_alternate(other, &input->section[2 * MLSYM_SECTIONS]);
	mlsym_import(other, learned, bytes);
	check_lookup(other, input);
	mlsym_close(other);
	mlsym_free(learned);
}

static bool attach(mlsym *handle, const struct input *input, uint64_t unit)
{
	if (input->package.memory)
		return mlsym_attach_packaged(handle, unit) == 0;
	return mlsym_attach_split(handle, unit, &input->section[MLSYM_SECTIONS]) == 0;
}

static void look_up(mlsym *handle, const struct input *input)
{
	struct mlsym_result *result = mlsym_lookup(handle, input->address, input->addresses, input->work);
	check(result != NULL);
	check_result(input, result);
	check_lookup(handle, input);
	check_learned(handle, input);
	bool attached = false;
	if (input->package.memory)
		mlsym_open_package(handle, &input->section[MLSYM_SECTIONS], &input->package);
	for (uint64_t i = 0; i < result->split_count && i < SPLITS_MOST; i++)
		attached |= attach(handle, input, result->splits[i].unit);
	mlsym_result_free(result);
	if (attached)
		check_lookup(handle, input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input;
	take_input(&input, data, bytes);
	mlsym *handle = mlsym_open(input.section);
	check(handle != NULL);
	mlsym_attach_alternate(handle, &input.section[2 * MLSYM_SECTIONS]);
	if (input.learned.memory)
		mlsym_import(handle, input.learned.memory, input.learned.size);
	look_up(handle, &input);
	mlsym_close(handle);
	free((void *)(uintptr_t)input.learned.memory);
	free((void *)(uintptr_t)input.package.memory);
	for (unsigned i = 0; i < PIECES; i++)
		free((void *)(uintptr_t)input.section[i].memory);
	return 0;
}
