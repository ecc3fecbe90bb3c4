// elfimage.c -- bounded reading of a loaded ELF object
//
// Context:   sampled (the constructors of an image) and cold (symbols). No allocation, no lock, no
//            libc call.
// Invariant: every load from an object's memory is preceded by a check against its readable ranges.
// Why:       dlsym() allocates and locks, and would be called inside the first malloc of a process.
//            Odd layouts exist (first p_vaddr not 0, holes between segments, tables moved by
//            patchelf) and objects are not always healthy: a wrong offset must end in "not found".
// Proof:     tests/native/test_elfimage.c
#include "elfimage.h"

#include <elf.h>
#include <link.h>

#define DYNAMIC_ENTRIES_MAX 512U
#define HASH_STEPS_MAX (1U << 20)
#define NAME_BYTES_MAX 4096U
#define VERSYM_HIDDEN 0x8000U
#define NOTES_MAX 64U

bool elf_image_readable(const struct elf_image *image, uintptr_t address, size_t bytes)
{
	for (unsigned i = 0; i < image->range_count; i++) {
		const struct elf_range *range = &image->readable[i];
		if (address >= range->low && address < range->high)
			return bytes <= range->high - address;
	}
	return false;
}

uintptr_t elf_image_readable_end(const struct elf_image *image, uintptr_t address)
{
	for (unsigned i = 0; i < image->range_count; i++)
		if (address >= image->readable[i].low && address < image->readable[i].high)
			return image->readable[i].high;
	return 0;
}

static void image_add_range(struct elf_image *image, uintptr_t low, uintptr_t high)
{
	struct elf_range *last = image->range_count ? &image->readable[image->range_count - 1] : NULL;
	if (last && last->high == low)
		last->high = high;
	else if (image->range_count < ELF_RANGES)
		image->readable[image->range_count++] = (struct elf_range){low, high};
}

static void image_find_build_id(struct elf_image *image, uintptr_t note, size_t bytes)
{
	if (image->build_id_bytes || note % 4 || !elf_image_readable(image, note, bytes))
		return;
	for (unsigned i = 0; i < NOTES_MAX && bytes >= sizeof(Elf64_Nhdr); i++) {
		const Elf64_Nhdr *header = (const Elf64_Nhdr *)note;
		size_t name_bytes = round_up(header->n_namesz, 4);
		size_t total = sizeof *header + name_bytes + round_up(header->n_descsz, 4);
		if (total > bytes || header->n_namesz > bytes || header->n_descsz > bytes)
			return;
		const char *name = (const char *)(header + 1);
		if (header->n_type == NT_GNU_BUILD_ID && header->n_namesz == 4 && name[0] == 'G' &&
		    name[1] == 'N' && name[2] == 'U' && header->n_descsz <= ELF_BUILD_ID_MAX) {
			const uint8_t *id = (const uint8_t *)name + name_bytes;
			for (uint32_t b = 0; b < header->n_descsz; b++)
				image->build_id[b] = id[b];
			image->build_id_bytes = header->n_descsz;
			image->build_id_offset = (uint32_t)((uintptr_t)id - image->low);
			return;
		}
		note += total;
		bytes -= total;
	}
}

bool elf_image_from_phdrs(uintptr_t bias, const void *phdr, unsigned count, struct elf_image *out)
{
	const Elf64_Phdr *headers = phdr;
	*out = (struct elf_image){.bias = bias, .low = UINTPTR_MAX, .text_low = UINTPTR_MAX};

	for (unsigned i = 0; i < count; i++) {
		const Elf64_Phdr *header = &headers[i];
		if (header->p_type != PT_LOAD || header->p_memsz == 0)
			continue;
		uintptr_t start = bias + header->p_vaddr;
		uintptr_t end = start + header->p_memsz;
		if (end < start || end > UINTPTR_MAX - PAGE_BYTES)
			return false;
		uintptr_t low = round_down(start, PAGE_BYTES), high = round_up(end, PAGE_BYTES);
		if (low < out->low)
			out->low = low;
		if (high > out->high)
			out->high = high;
		if (header->p_flags & PF_R)
			image_add_range(out, low, high);
		if (header->p_flags & PF_X) {
			if (start < out->text_low)
				out->text_low = start;
			if (end > out->text_high)
				out->text_high = end;
		}
	}
	if (out->low >= out->high)
		return false;

	// Second pass: what these point at must lie in the ranges of the first.
	for (unsigned i = 0; i < count; i++) {
		const Elf64_Phdr *header = &headers[i];
		uintptr_t start = bias + header->p_vaddr;
		if (header->p_type == PT_GNU_EH_FRAME && elf_image_readable(out, start, header->p_memsz)) {
			out->eh_frame_hdr = (const uint8_t *)start;
			out->eh_frame_hdr_bytes = header->p_memsz;
		} else if (header->p_type == PT_DYNAMIC && start % 8 == 0 &&
			   elf_image_readable(out, start, sizeof(Elf64_Dyn))) {
			out->dynamic = (const void *)start;
		} else if (header->p_type == PT_NOTE) {
			image_find_build_id(out, start, header->p_memsz);
		}
	}
	return true;
}

bool elf_image_from_header(uintptr_t map_start, struct elf_image *out)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)map_start;
	if (map_start % PAGE_BYTES || header->e_ident[EI_MAG0] != ELFMAG0 ||
	    header->e_ident[EI_MAG1] != ELFMAG1 || header->e_ident[EI_MAG2] != ELFMAG2 ||
	    header->e_ident[EI_MAG3] != ELFMAG3 || header->e_ident[EI_CLASS] != ELFCLASS64 ||
	    header->e_phentsize != sizeof(Elf64_Phdr))
		return false;
	// Only the first page is known to be there.
	if (header->e_phoff > PAGE_BYTES || header->e_phoff % 8 ||
	    header->e_phnum > (PAGE_BYTES - header->e_phoff) / sizeof(Elf64_Phdr))
		return false;
	const Elf64_Phdr *headers = (const Elf64_Phdr *)(map_start + header->e_phoff), *first = NULL;
	// Segments ascend in what a loader takes. Were one below the first, its place would lie before the object.
	for (unsigned i = 0; i < header->e_phnum; i++)
		if (headers[i].p_type == PT_LOAD && !first)
			first = &headers[i];
		else if (headers[i].p_type == PT_LOAD && headers[i].p_vaddr < first->p_vaddr)
			return false;
	return first && first->p_offset < PAGE_BYTES &&
	       elf_image_from_phdrs(map_start - round_down(first->p_vaddr, PAGE_BYTES), headers, header->e_phnum, out) &&
	       out->low == map_start;
}

// ---- the dynamic section -------------------------------------------------------------------------

struct dynamic_tables {
	uintptr_t strings, symbols, versions, gnu_hash, hash;
	uintptr_t string_bytes;
};

// glibc adds the bias to the addresses in a dynamic section in place, except where that memory is
// read-only (the vdso). Whichever reading lies closer to the section itself is the address meant.
static uintptr_t dynamic_address(const struct elf_image *image, uintptr_t value)
{
	uintptr_t near = (uintptr_t)image->dynamic;
	uintptr_t moved = value + image->bias;
	uintptr_t distance = value > near ? value - near : near - value;
	uintptr_t distance_moved = moved > near ? moved - near : near - moved;
	return distance <= distance_moved ? value : moved;
}

static bool tag_is_address(int64_t tag)
{
	switch (tag) {
	case DT_PLTGOT: case DT_HASH: case DT_STRTAB: case DT_SYMTAB: case DT_RELA: case DT_INIT:
	case DT_FINI: case DT_REL: case DT_JMPREL: case DT_INIT_ARRAY: case DT_FINI_ARRAY:
	case DT_GNU_HASH: case DT_VERSYM: case DT_VERDEF: case DT_VERNEED:
		return true;
	}
	return false;
}

bool elf_image_from_dynamic(uintptr_t bias, const void *dynamic, struct elf_image *out)
{
	*out = (struct elf_image){.bias = bias, .dynamic = dynamic};
	if (!dynamic)
		return false;
	uintptr_t low = (uintptr_t)dynamic, high = low, strings = 0, string_bytes = 0;
	const Elf64_Dyn *entry = dynamic;
	for (unsigned i = 0; i < DYNAMIC_ENTRIES_MAX; i++, entry++) {
		high = (uintptr_t)(entry + 1) > high ? (uintptr_t)(entry + 1) : high;
		if (entry->d_tag == DT_NULL)
			break;
		if (entry->d_tag == DT_STRSZ)
			string_bytes = entry->d_un.d_val;
		if (!tag_is_address(entry->d_tag) || entry->d_un.d_ptr == 0)
			continue;
		uintptr_t address = dynamic_address(out, entry->d_un.d_ptr);
		if (entry->d_tag == DT_STRTAB)
			strings = address;
		low = address < low ? address : low;
		high = address + 8 > high ? address + 8 : high;
	}
	if (strings + string_bytes > high)
		high = strings + string_bytes;
	out->low = out->text_low = round_down(low, PAGE_BYTES);
	out->high = out->text_high = round_up(high, PAGE_BYTES);
	image_add_range(out, out->low, out->high);
	return strings != 0;
}

static bool dynamic_read(const struct elf_image *image, struct dynamic_tables *out)
{
	*out = (struct dynamic_tables){0};
	const Elf64_Dyn *entry = image->dynamic;
	if (!entry)
		return false;
	for (unsigned i = 0; i < DYNAMIC_ENTRIES_MAX; i++, entry++) {
		if (!elf_image_readable(image, (uintptr_t)entry, sizeof *entry) || entry->d_tag == DT_NULL)
			break;
		uintptr_t address = dynamic_address(image, entry->d_un.d_ptr);
		switch (entry->d_tag) {
		case DT_STRTAB: out->strings = address; break;
		case DT_SYMTAB: out->symbols = address; break;
		case DT_VERSYM: out->versions = address; break;
		case DT_GNU_HASH: out->gnu_hash = address; break;
		case DT_HASH: out->hash = address; break;
		case DT_STRSZ: out->string_bytes = entry->d_un.d_val; break;
		}
	}
	return elf_image_readable(image, out->strings, out->string_bytes) && out->symbols &&
	       out->symbols % 8 == 0;
}

// ---- symbols -------------------------------------------------------------------------------------

struct symbol_search {
	const struct elf_image *image;
	struct dynamic_tables tables;
	const char *name;
	const Elf64_Sym *hidden; // found, but only under a hidden version
};

// The uint32_t at `address + index * 4`; *ok turns false, once and for all, outside the object.
static uint32_t read_word(const struct elf_image *image, uintptr_t address, uint64_t index, bool *ok)
{
	if (index > (1ULL << 32) || address % 4 || !elf_image_readable(image, address + index * 4, 4)) {
		*ok = false;
		return 0;
	}
	return *(const uint32_t *)(address + index * 4);
}

// The symbol at `index` if it defines the name under its default version, else NULL.
static const Elf64_Sym *symbol_if_default(struct symbol_search *search, uint32_t index)
{
	const struct dynamic_tables *tables = &search->tables;
	uintptr_t place = tables->symbols + (uintptr_t)index * sizeof(Elf64_Sym);
	if (!elf_image_readable(search->image, place, sizeof(Elf64_Sym)))
		return NULL;
	const Elf64_Sym *symbol = (const Elf64_Sym *)place;
	if (symbol->st_shndx == SHN_UNDEF || symbol->st_shndx == SHN_ABS ||
	    ELF64_ST_BIND(symbol->st_info) == STB_LOCAL || symbol->st_name >= tables->string_bytes)
		return NULL;
	const char *text = (const char *)tables->strings + symbol->st_name;
	size_t room = tables->string_bytes - symbol->st_name, i = 0;
	while (i < room && text[i] && text[i] == search->name[i])
		i++;
	if (i == room || text[i] != search->name[i])
		return NULL;
	if (tables->versions && tables->versions % 2 == 0) {
		uintptr_t version = tables->versions + (uintptr_t)index * 2;
		if (elf_image_readable(search->image, version, 2) &&
		    *(const uint16_t *)version & VERSYM_HIDDEN) {
			if (!search->hidden)
				search->hidden = symbol;
			return NULL;
		}
	}
	return symbol;
}

static const Elf64_Sym *search_gnu_hash(struct symbol_search *search)
{
	uint32_t hash = 5381;
	for (size_t i = 0; i < NAME_BYTES_MAX && search->name[i]; i++)
		hash = hash * 33 + (uint8_t)search->name[i];

	const struct elf_image *image = search->image;
	uintptr_t table = search->tables.gnu_hash;
	bool ok = true;
	uint32_t buckets = read_word(image, table, 0, &ok), first = read_word(image, table, 1, &ok);
	uint32_t bloom_words = read_word(image, table, 2, &ok);
	if (!ok || buckets == 0)
		return NULL;
	uint64_t bucket_base = 4 + (uint64_t)bloom_words * 2, chain_base = bucket_base + buckets;
	uint64_t index = read_word(image, table, bucket_base + hash % buckets, &ok);
	for (uint32_t step = 0; ok && index >= first && step < HASH_STEPS_MAX; step++, index++) {
		uint32_t link = read_word(image, table, chain_base + index - first, &ok);
		if (!ok || index > UINT32_MAX)
			return NULL;
		const Elf64_Sym *symbol =
		    (link | 1) == (hash | 1) ? symbol_if_default(search, (uint32_t)index) : NULL;
		if (symbol || link & 1)
			return symbol;
	}
	return NULL;
}

static const Elf64_Sym *search_sysv_hash(struct symbol_search *search)
{
	uint32_t hash = 0;
	for (size_t i = 0; i < NAME_BYTES_MAX && search->name[i]; i++) {
		hash = (hash << 4) + (uint8_t)search->name[i];
		hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
	}
	const struct elf_image *image = search->image;
	uintptr_t table = search->tables.hash;
	bool ok = true;
	uint32_t buckets = read_word(image, table, 0, &ok);
	if (!ok || buckets == 0)
		return NULL;
	uint32_t index = read_word(image, table, 2 + (uint64_t)hash % buckets, &ok);
	for (uint32_t step = 0; ok && index != 0 && step < HASH_STEPS_MAX; step++) {
		const Elf64_Sym *symbol = symbol_if_default(search, index);
		if (symbol)
			return symbol;
		index = read_word(image, table, 2 + (uint64_t)buckets + index, &ok);
	}
	return NULL;
}

uintptr_t elf_image_symbol(const struct elf_image *image, const char *name, size_t *size_out)
{
	struct symbol_search search = {.image = image, .name = name};
	if (size_out)
		*size_out = 0;
	if (!dynamic_read(image, &search.tables))
		return 0;
	const Elf64_Sym *symbol = search.tables.gnu_hash ? search_gnu_hash(&search)
				  : search.tables.hash   ? search_sysv_hash(&search)
							 : NULL;
	if (!symbol)
		symbol = search.hidden;
	if (!symbol || ELF64_ST_TYPE(symbol->st_info) == STT_GNU_IFUNC ||
	    ELF64_ST_TYPE(symbol->st_info) == STT_TLS || symbol->st_value == 0)
		return 0;
	if (size_out)
		*size_out = symbol->st_size;
	return image->bias + symbol->st_value;
}

extern const char own_begin[] __asm__("__ehdr_start") HIDDEN; // set by the linker

COLD bool elf_is_own(uintptr_t address)
{
	static uintptr_t end; // found by the very first hook or the constructor, while there is one thread
	struct elf_image image;
	if (!end && elf_image_from_header((uintptr_t)own_begin, &image))
		end = image.high;
	return address >= (uintptr_t)own_begin && address < end;
}

// ---- all objects ---------------------------------------------------------------------------------

COLD static uintptr_t search_list(const struct link_map *map, const char *name)
{
	struct elf_image image;
	for (; map; map = map->l_next) {
		uintptr_t found = 0;
		if (elf_image_from_dynamic(map->l_addr, map->l_ld, &image))
			found = elf_image_symbol(&image, name, NULL);
		if (found)
			return found;
	}
	return 0;
}

COLD uintptr_t elf_global_symbol(const char *name) { return search_list(_r_debug.r_map, name); }

COLD uintptr_t elf_next_symbol(uintptr_t self_address, const char *name)
{
	struct elf_image image;
	for (const struct link_map *map = _r_debug.r_map; map; map = map->l_next)
		if (elf_image_from_dynamic(map->l_addr, map->l_ld, &image) &&
		    self_address >= image.low && self_address < image.high)
			return search_list(map->l_next, name);
	return 0;
}
