// relocs.h -- the slots of one loaded object: where it keeps the addresses of functions that it names
//
// Layer 3. Cold. What an object says of itself is not believed: nothing is read outside the ranges that its program
// headers declare, whatever stands in its tables.
#ifndef MEMLEAK_RELOCS_H
#define MEMLEAK_RELOCS_H

#include "elfimage.h"

struct relocs {
	struct elf_image image;
	uintptr_t relro_low, relro_high; // the pages that the loader protects when it is done with the object; may be empty
	bool symbolic;                   // it prefers its own definitions to everybody's
	// what relocs_next() works with
	const void *phdr;
	unsigned phdr_count;
	uintptr_t symbols, strings;
	size_t string_bytes;
	struct elf_range table[2];
};

enum relocs_kind {
	RELOCS_CALL,     // a function that the object calls; the loader may bind it at the first call only
	RELOCS_FIXED,    // the address of a function, stored by the loader and by nobody else
	RELOCS_VARIABLE, // the first value of a variable that is the program's to change
};

struct relocs_slot {
	uintptr_t *place; // aligned, and readable
	const char *name;
	uintptr_t own; // the object's own definition of that name; 0: none
	enum relocs_kind kind;
	bool weak;     // nobody need define it
	bool writable; // it lies in a segment that is
};

// From program headers known to be readable. False: it has no segments. An object without tables has no slots.
bool relocs_read(uintptr_t bias, const void *phdr, unsigned count, struct relocs *out);

struct relocs_cursor { // all zero before the first
	unsigned table;
	size_t index;
};

// The next slot for a name that `wanted` says yes to; false: there is none left.
bool relocs_next(const struct relocs *object, struct relocs_cursor *cursor, bool (*wanted)(const char *name), struct relocs_slot *out);

// Does the loader protect the page of this address when it is done with the object?
static inline bool relocs_in_relro(const struct relocs *object, uintptr_t address)
{
	return address >= object->relro_low && address < object->relro_high;
}

#endif
