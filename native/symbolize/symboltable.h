// symboltable.h -- the entries of an ELF symbol table, one after another
#ifndef MEMLEAK_SYMBOLIZE_SYMBOLTABLE_H
#define MEMLEAK_SYMBOLIZE_SYMBOLTABLE_H

#include "section.h"

enum { STT_NOTYPE = 0, STT_OBJECT = 1, STT_FUNC = 2, STT_SECTION = 3, STT_FILE = 4, STT_GNU_IFUNC = 10 };
enum { STB_LOCAL = 0, STV_HIDDEN = 2 };

struct raw_symbol {
	uint64_t value, size;
	uint32_t name, number; // in the strings; in the table
	uint16_t section;
	uint8_t kind, bind, visibility;
};

// False: that is enough.
typedef bool (*symbol_visitor)(void *context, const struct raw_symbol *symbol);

// All but the first, which is none, and at most `most`; `narrow`: of a 32-bit program. False: stopped, or no memory.
bool symbols_each(const struct section *table, bool narrow, uint32_t most, symbol_visitor visit, void *context);

#endif
