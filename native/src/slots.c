// slots.c -- the places where loaded objects keep the addresses of functions they call
//
// Context:   cold. Runs inside dl_iterate_phdr(), whose lock keeps objects from being unloaded meanwhile.
// Invariant: one aligned word is stored per slot; a page's protection afterwards is what it was.
// Why:       the original is the slot's own value, so objects bound to another allocator keep it. A slot not
//            bound yet (lazy PLT) still points into its own object: there the value is what the loader
//            would have found, or the first call would bind past us.
// Proof:     tests/integration/test_operator_new.py
#include "slots.h"

#include "atomics.h"
#include "elfimage.h"
#include "sys.h"

#include <elf.h>
#include <link.h>

struct work {
	struct elf_image own;
	bool (*wanted)(const char *);
	uintptr_t (*replacement)(const char *, uintptr_t);
};

struct object {
	uintptr_t bias;
	struct elf_image image;
	uintptr_t relro_low, relro_high;
	const ElfW(Sym) *symbols;
	const char *strings;
	size_t string_bytes;
};

static bool is_slot_type(unsigned type)
{
#if defined(__x86_64__)
	return type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT || type == R_X86_64_64;
#else
#error "slots.c: this architecture's relocation types are not listed yet"
#endif
}

static void store_slot(const struct object *object, uintptr_t *slot, uintptr_t value)
{
	uintptr_t page = round_down((uintptr_t)slot, PAGE_BYTES);
	bool relro = (uintptr_t)slot >= object->relro_low && (uintptr_t)slot < object->relro_high;
	if (relro && sys_call(SYS_mprotect, page, PAGE_BYTES, PROT_READ | PROT_WRITE) < 0)
		return; // refused (seccomp, mseal): the object stays as it is
	store_release(slot, value); // a caller on another thread sees the old function or the new one
	if (relro)
		sys_call(SYS_mprotect, page, PAGE_BYTES, PROT_READ);
}

static void patch_table(const struct object *object, const struct work *work, uintptr_t table, size_t bytes)
{
	if (!table || !elf_image_readable(&object->image, table, bytes))
		return;
	const ElfW(Rela) *rela = (const ElfW(Rela) *)table;
	for (size_t i = 0; i < bytes / sizeof(*rela); i++) {
		const ElfW(Rela) *r = &rela[i];
		if (!is_slot_type(ELF64_R_TYPE(r->r_info)) || !ELF64_R_SYM(r->r_info) || r->r_addend)
			continue;
		const ElfW(Sym) *symbol = &object->symbols[ELF64_R_SYM(r->r_info)];
		if (!elf_image_readable(&object->image, (uintptr_t)symbol, sizeof(*symbol)) || symbol->st_name >= object->string_bytes)
			continue;
		const char *name = object->strings + symbol->st_name;
		uintptr_t *slot = (uintptr_t *)(object->bias + r->r_offset);
		if ((uintptr_t)slot % sizeof(*slot) || !elf_image_readable(&object->image, (uintptr_t)slot, sizeof(*slot)) || !work->wanted(name))
			continue;
		uintptr_t original = load_relaxed(slot);
		if (original >= work->own.low && original < work->own.high)
			continue; // patched already
		// An object may define the function and still call it through a lazy slot (libstdc++ does).
		bool lazy = original >= object->image.low && original < object->image.high &&
			    (symbol->st_shndx == SHN_UNDEF || original != object->bias + symbol->st_value);
		if (lazy || !original)
			original = elf_global_symbol(name);
		uintptr_t value = original ? work->replacement(name, original) : 0;
		if (value && value != original)
			store_slot(object, slot, value);
	}
}

// Addresses in a dynamic section are relocated in place by glibc, but not in every object (vDSO).
static uintptr_t pointer_of(const struct object *object, ElfW(Addr) value)
{
	return value < object->image.low ? object->bias + value : value;
}

static int patch_object(struct dl_phdr_info *info, size_t size, void *argument)
{
	(void)size;
	struct object object = {.bias = info->dlpi_addr};
	if (!elf_image_from_phdrs(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum, &object.image) || !object.image.dynamic)
		return 0;
	struct work *work = argument;
	if (object.image.low == work->own.low)
		return 0;
	for (unsigned i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO) {
			// The loader protects whole pages below the end of the range.
			object.relro_low = round_down(object.bias + info->dlpi_phdr[i].p_vaddr, PAGE_BYTES);
			object.relro_high = round_down(object.bias + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz, PAGE_BYTES);
		}
	uintptr_t plt = 0, rela = 0;
	size_t plt_bytes = 0, rela_bytes = 0;
	for (const ElfW(Dyn) *d = object.image.dynamic; elf_image_readable(&object.image, (uintptr_t)d, sizeof(*d)) && d->d_tag != DT_NULL; d++)
		switch (d->d_tag) {
		case DT_SYMTAB: object.symbols = (const ElfW(Sym) *)pointer_of(&object, d->d_un.d_ptr); break;
		case DT_STRTAB: object.strings = (const char *)pointer_of(&object, d->d_un.d_ptr); break;
		case DT_STRSZ: object.string_bytes = d->d_un.d_val; break;
		case DT_JMPREL: plt = pointer_of(&object, d->d_un.d_ptr); break;
		case DT_PLTRELSZ: plt_bytes = d->d_un.d_val; break;
		case DT_RELA: rela = pointer_of(&object, d->d_un.d_ptr); break;
		case DT_RELASZ: rela_bytes = d->d_un.d_val; break;
		}
	if (!object.symbols || !object.strings || !elf_image_readable(&object.image, (uintptr_t)object.strings, object.string_bytes))
		return 0;
	patch_table(&object, work, plt, plt_bytes);
	patch_table(&object, work, rela, rela_bytes);
	return 0;
}

static int find_own(struct dl_phdr_info *info, size_t size, void *out)
{
	(void)size;
	struct elf_image *image = out;
	uintptr_t self = (uintptr_t)&slots_patch_all;
	return elf_image_from_phdrs(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum, image) && self >= image->low && self < image->high;
}

void slots_patch_all(bool (*wanted)(const char *), uintptr_t (*replacement)(const char *, uintptr_t))
{
	static struct work work; // large; one caller at a time
	work.wanted = wanted;
	work.replacement = replacement;
	if (dl_iterate_phdr(find_own, &work.own))
		dl_iterate_phdr(patch_object, &work);
}
