// mlsym.h -- functions, inlined calls, files and lines of addresses, from DWARF
//
// Not the tracer's: an object of its own, which neither hooks nor samples. Any number of handles; one handle is used by one
// thread at a time. Files may say anything: what cannot be read costs its names, no more.
#ifndef MEMLEAK_MLSYM_H
#define MEMLEAK_MLSYM_H

#include <stdint.h>

// -- declarations begin --

// A section of a file: where it stands in the file, or memory that stays valid as long as the handle. size 0: there is none.
struct mlsym_section {
	int fd;
	uint64_t offset, size;
	const unsigned char *memory;
};

#define MLSYM_SECTIONS 10 // in this order
// .debug_abbrev .debug_addr .debug_aranges .debug_info .debug_line .debug_line_str .debug_ranges .debug_rnglists .debug_str
// .debug_str_offsets

#define MLSYM_INLINED 1	      // the call of this frame's function was inlined into the next frame's
#define MLSYM_LINKAGE_NAME 2  // the function's name is as linkers spell it: its language changes none, or there is one beside the name
#define MLSYM_LINE 4	      // file and line are known

struct mlsym_frame {
	uint32_t address; // the number of the address that was asked for
	uint32_t flags;
	uint32_t line, column, discriminator; // 0: not known
	uint32_t function, file; // offsets in the text; 0: not known
	uint32_t reserved;	 // 0: frames can be compared as bytes
	uint64_t entry, low;	 // of the function: its entry's offset, its first address; 0: not known
};

// A unit whose entries stand in another file that is not attached.
struct mlsym_split {
	uint64_t unit, id;
	uint32_t name, directory; // offsets in the text; 0: not known
};

struct mlsym_result {
	const struct mlsym_frame *frames;
	const struct mlsym_split *splits;
	const char *text; // strings, each with a NUL behind it
	uint64_t frame_count, split_count, text_bytes;
	int complete; // 0: more was to be read than `work` allows, or there was no memory
};

typedef struct mlsym mlsym;

// NULL: no memory. The descriptors are not the handle's to close.
mlsym *mlsym_open(const struct mlsym_section *sections);

// What dwz took out of this file and others. 0: done.
int mlsym_attach_alternate(mlsym *handle, const struct mlsym_section *sections);

// The .dwo of a unit, as mlsym_split names it. 0: done; -1: it has no such unit, or no memory.
int mlsym_attach_split(mlsym *handle, uint64_t unit, const struct mlsym_section *sections);

// A package of many .dwo files (.dwp); `index` is its .debug_cu_index. Then its units can be attached. 0: done; -1: it has none, or no memory.
int mlsym_open_package(mlsym *handle, const struct mlsym_section *sections, const struct mlsym_section *index);
int mlsym_attach_packaged(mlsym *handle, uint64_t unit);

// Frames of each address, innermost first, in ascending order of address. `addresses` is in ascending order without repetition. At
// most `work` entries of debug information are read. NULL: no memory.
struct mlsym_result *mlsym_lookup(mlsym *handle, const uint64_t *addresses, uint32_t count, uint64_t work);

// What was learned of the units that were touched, to be given to a later handle of the same file: memory to be freed by mlsym_free().
// NULL: nothing, or no memory. Given bytes that are not so, a handle learns less, or looks in vain.
uint32_t mlsym_learned_units(const mlsym *handle);
unsigned char *mlsym_export(const mlsym *handle, uint64_t *bytes);
void mlsym_import(mlsym *handle, const unsigned char *bytes, uint64_t count);
void mlsym_free(unsigned char *exported);

// From now on, lines of DWARF 5 that no file was chosen for are in file 0, as binutils up to 2.40 has it, and not in file 1.
void mlsym_begin_in_file_0(mlsym *handle);

void mlsym_result_free(struct mlsym_result *result);
void mlsym_close(mlsym *handle);

// ---- symbol tables -------------------------------------------------------------------------------

// A symbol table of an ELF file, little-endian.
struct mlsym_symbol_table {
	struct mlsym_section symbols, strings;
	struct mlsym_section versions; // of dynamic symbols: two bytes each
	const uint64_t *limit;	       // of each section by its number: the address where its code ends; 0: it holds none
	uint32_t limits;
	int narrow; // its entries are those of 32-bit programs
};

struct mlsym_symbol {
	uint32_t address;    // the number of the address that was asked for
	uint32_t name, file; // offsets in the text; file 0: not known
};

struct mlsym_names {
	struct mlsym_symbol *symbols;
	char *text; // strings, each with a NUL behind it
	uint64_t count, text_bytes;
};

typedef struct mlsym_symbols mlsym_symbols;

mlsym_symbols *mlsym_symbols_open(void); // NULL: no memory

// Reads a table, but for its strings: what is in memory must stay valid. 0: done; -1: there are too many, or no memory.
int mlsym_symbols_add(mlsym_symbols *handle, const struct mlsym_symbol_table *table);

uint64_t mlsym_symbols_count(const mlsym_symbols *handle);

// The names of the function at each address, best first, in the order of the addresses. `descriptors` has a file for the strings of each
// table that was read, -1 for what is in memory or cannot be opened again. NULL: no memory.
struct mlsym_names *mlsym_symbols_lookup(mlsym_symbols *handle, const int *descriptors, const uint64_t *addresses, uint32_t count);

// By the rule of the GNU tools instead: a symbol reaches to the next one of its section.
struct mlsym_nearest {
	uint64_t start, size;
	uint32_t number; // in the table; 0: there is none
	uint32_t name, file; // in its strings
	uint32_t has_file;
};

// For each of `addresses`, in ascending order, the symbol of a section that starts last at or before it and not below `lowest`: of several
// the largest, then the first. -1: no memory.
int mlsym_find_nearest(const struct mlsym_section *table, int narrow, uint32_t section, uint64_t lowest, const uint64_t *addresses,
		       uint32_t count, struct mlsym_nearest *found);

void mlsym_names_free(struct mlsym_names *names);
void mlsym_symbols_close(mlsym_symbols *handle);

// -- declarations end --

#endif
