// elfimage.h -- bounded reading of a loaded ELF object
//
// Layer 2. What is mapped of one object, told by its program headers, and the few things we look
// up in it: the unwind table, the build id, a dynamic symbol. Nothing here reads outside the ranges
// that the program headers declare readable, whatever the bytes inside them say.
#ifndef MEMLEAK_ELFIMAGE_H
#define MEMLEAK_ELFIMAGE_H

#include "base.h"

#define ELF_RANGES 6U
#define ELF_BUILD_ID_MAX 20U

struct elf_range {
	uintptr_t low, high;
};

struct elf_image {
	uintptr_t bias;                // what to add to an address of the file
	uintptr_t low, high;           // from the first mapped page to the end of the last
	uintptr_t text_low, text_high; // span of the executable segments
	const uint8_t *eh_frame_hdr;   // NULL: none, or not in readable memory
	size_t eh_frame_hdr_bytes;
	const void *dynamic; // NULL: none
	uint32_t range_count;
	uint32_t build_id_bytes; // 0 = none
	uint8_t build_id[ELF_BUILD_ID_MAX];
	uint32_t build_id_offset; // where it stands, from `low`
	struct elf_range readable[ELF_RANGES];
};

// From program headers already known to be readable (dl_iterate_phdr, AT_PHDR).
bool elf_image_from_phdrs(uintptr_t bias, const void *phdr, unsigned count, struct elf_image *out);

// From the first page of a mapped object. False also when the program headers are not on that page.
bool elf_image_from_header(uintptr_t map_start, struct elf_image *out);

// From a link_map alone. The ranges are guessed from the table addresses in the dynamic section:
// good enough for looking up symbols in objects that the loader has accepted. No unwind table.
bool elf_image_from_dynamic(uintptr_t bias, const void *dynamic, struct elf_image *out);

// Do all `bytes` from `address` lie in one readable range?
bool elf_image_readable(const struct elf_image *image, uintptr_t address, size_t bytes);

// End of the readable range that holds `address`; 0 if none does.
uintptr_t elf_image_readable_end(const struct elf_image *image, uintptr_t address);

// Address of a defined dynamic symbol, 0 if there is none. A default version wins over a hidden
// one. Also 0 for STT_GNU_IFUNC (resolving one means running foreign code) and thread-local
// symbols.
uintptr_t elf_image_symbol(const struct elf_image *image, const char *name, size_t *size_out);

// Search order of the loader, read from its own list of objects. No lock is taken, so that it works inside the very
// first malloc of the process: at boot, or inside dl_iterate_phdr(), whose lock keeps the list.
//
// The definition of `name` in the first object after the one that holds the function at
// `self_address`; 0 if none.
uintptr_t elf_next_symbol(uintptr_t self_address, const char *name);

// The first definition of `name` in any object; 0 if none. objects_symbol() is the same at any time.
uintptr_t elf_global_symbol(const char *name);

// Does this address lie in the object that this code is part of?
bool elf_is_own(uintptr_t address);

#endif
