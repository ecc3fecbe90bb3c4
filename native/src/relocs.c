// relocs.c -- the slots of one loaded object: where it keeps the addresses of functions that it names
//
// Context:   cold. No allocation, no lock, no libc call.
// Invariant: every load is preceded by a check against the object's readable ranges; a name handed out ends inside
//            the string table.
// Why:       a word that can be stored to is found by name in three kinds of relocation. Who may change it later
//            differs: JUMP_SLOT the loader at the first call, GLOB_DAT nobody, R_X86_64_64 the program, unless the
//            loader protects its page.
// Proof:     tests/native/test_slots.c
#include "relocs.h"

#include <elf.h>
#include <link.h>

// Addresses in a dynamic section are relocated in place by glibc, but not in every object (vDSO).
static uintptr_t pointer_of(const struct relocs *object, ElfW(Addr) value)
{
	return value < object->image.low ? object->image.bias + value : value;
}

static bool is_aligned(uintptr_t address) { return address % sizeof(uintptr_t) == 0; }

static void read_dynamic(struct relocs *object)
{
	const struct elf_image *image = &object->image;
	size_t bytes[2] = {0, 0};
	if (!is_aligned((uintptr_t)image->dynamic))
		return;
	for (const ElfW(Dyn) *d = image->dynamic; d && elf_image_readable(image, (uintptr_t)d, sizeof(*d)) && d->d_tag != DT_NULL; d++)
		switch (d->d_tag) {
		case DT_SYMTAB: object->symbols = pointer_of(object, d->d_un.d_ptr); break;
		case DT_STRTAB: object->strings = pointer_of(object, d->d_un.d_ptr); break;
		case DT_STRSZ: object->string_bytes = d->d_un.d_val; break;
		case DT_JMPREL: object->table[0].low = pointer_of(object, d->d_un.d_ptr); break;
		case DT_PLTRELSZ: bytes[0] = d->d_un.d_val; break;
		case DT_RELA: object->table[1].low = pointer_of(object, d->d_un.d_ptr); break;
		case DT_RELASZ: bytes[1] = d->d_un.d_val; break;
		case DT_SYMBOLIC: object->symbolic = true; break;
		case DT_FLAGS: object->symbolic |= (d->d_un.d_val & DF_SYMBOLIC) != 0; break;
		}
	for (unsigned i = 0; i < ARRAY_LEN(bytes); i++)
		if (object->table[i].low && is_aligned(object->table[i].low) && elf_image_readable(image, object->table[i].low, bytes[i]))
			object->table[i].high = object->table[i].low + bytes[i];
	if (!elf_image_readable(image, object->strings, object->string_bytes))
		object->string_bytes = 0;
	if (!is_aligned(object->symbols))
		object->symbols = 0;
	// No name is read past the end of the table.
	while (object->string_bytes && *(const char *)(object->strings + object->string_bytes - 1))
		object->string_bytes--;
}

bool relocs_read(uintptr_t bias, const void *phdr, unsigned count, struct relocs *out)
{
	const ElfW(Phdr) *headers = phdr;
	*out = (struct relocs){.phdr = phdr, .phdr_count = count};
	if (!elf_image_from_phdrs(bias, phdr, count, &out->image))
		return false;
	for (unsigned i = 0; i < count; i++)
		if (headers[i].p_type == PT_GNU_RELRO) {
			// The loader protects whole pages below the end of the range.
			out->relro_low = round_down(bias + headers[i].p_vaddr, PAGE_BYTES);
			out->relro_high = round_down(bias + headers[i].p_vaddr + headers[i].p_memsz, PAGE_BYTES);
		}
	read_dynamic(out);
	return true;
}

static bool in_writable_segment(const struct relocs *object, uintptr_t address)
{
	const ElfW(Phdr) *headers = object->phdr;
	for (unsigned i = 0; i < object->phdr_count; i++)
		if (headers[i].p_type == PT_LOAD && headers[i].p_flags & PF_W &&
		    address - (object->image.bias + headers[i].p_vaddr) < headers[i].p_memsz)
			return true;
	return false;
}

static bool kind_of(const struct relocs *object, unsigned type, uintptr_t place, enum relocs_kind *out)
{
#if defined(__x86_64__)
	switch (type) {
	case R_X86_64_JUMP_SLOT: *out = RELOCS_CALL; return true;
	case R_X86_64_GLOB_DAT: *out = RELOCS_FIXED; return true;
	case R_X86_64_64: *out = relocs_in_relro(object, place) ? RELOCS_FIXED : RELOCS_VARIABLE; return true;
	}
	return false;
#else
#error "relocs.c: this architecture's relocation types are not listed yet"
#endif
}

static const ElfW(Sym) *symbol_at(const struct relocs *object, uint32_t index)
{
	uintptr_t at = object->symbols + (uintptr_t)index * sizeof(ElfW(Sym));
	return object->symbols && elf_image_readable(&object->image, at, sizeof(ElfW(Sym))) ? (const ElfW(Sym) *)at : NULL;
}

bool relocs_next(const struct relocs *object, struct relocs_cursor *cursor, bool (*wanted)(const char *name), struct relocs_slot *out)
{
	const struct elf_image *image = &object->image;
	for (; cursor->table < ARRAY_LEN(object->table); cursor->table++, cursor->index = 0) {
		const struct elf_range *table = &object->table[cursor->table];
		const ElfW(Rela) *rela = (const ElfW(Rela) *)table->low;
		size_t count = table->high ? (table->high - table->low) / sizeof(*rela) : 0;
		while (cursor->index < count) {
			const ElfW(Rela) *r = &rela[cursor->index++];
			uintptr_t place = image->bias + r->r_offset;
			if (!ELF64_R_SYM(r->r_info) || r->r_addend || !kind_of(object, ELF64_R_TYPE(r->r_info), place, &out->kind))
				continue;
			const ElfW(Sym) *symbol = symbol_at(object, (uint32_t)ELF64_R_SYM(r->r_info));
			if (!symbol || symbol->st_name >= object->string_bytes)
				continue;
			out->name = (const char *)(object->strings + symbol->st_name);
			if (!wanted(out->name)) // nearly all of them
				continue;
			if (!is_aligned(place) || !elf_image_readable(image, place, sizeof(*out->place)))
				continue;
			out->place = (uintptr_t *)place;
			out->own = symbol->st_shndx == SHN_UNDEF ? 0 : image->bias + symbol->st_value;
			out->weak = ELF64_ST_BIND(symbol->st_info) == STB_WEAK;
			out->writable = in_writable_segment(object, place);
			return true;
		}
	}
	return false;
}
