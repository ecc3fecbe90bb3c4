// test_relocs.c -- every slot of an object is found, and none that a damaged one invents leads out of it
//
//     test_relocs [--long]
#include "fixture.h"
#include "image_copy.h"

#include "relocs.h"

#include <dlfcn.h>
#include <link.h>

static uint64_t random_state = 0x13198A2E03707344;

// ---- objects to look at ------------------------------------------------------------------------------

static char directory[] = "/tmp/memleak-relocs-XXXXXX";

static const char source[] = "void *get(void); void put(void *); extern __attribute__((weak)) void maybe(void);\n"
			     "void *(*variable)(void) = get; void *(*const constant)(void) = get; int (*own)(void);\n"
			     "int mine(void) { return 1; } int (*const own_constant)(void) = mine;\n"
			     "void work(void) { put(get()); if (maybe) maybe(); own = mine; }\n"
			     "void *address(void) { return (void *)put; }\n";

static const char *const flags[] = {
    "-Wl,-z,lazy,-z,relro", "-Wl,-z,now,-z,relro", "-Wl,-z,lazy,-z,norelro", "-fno-plt -Wl,-z,lazy",
    "-Wl,-Ttext-segment=0x10000000", "-fuse-ld=lld", "-fuse-ld=gold", "-Wl,--hash-style=sysv", "-Wl,-Bsymbolic",
};

// The path of the library, or NULL where that linker is not there.
static const char *build(unsigned i)
{
	static char path[128];
	char command[512];
	snprintf(path, sizeof(path), "%s/%u.so", directory, i);
	snprintf(command, sizeof(command), "cc -shared -fPIC -O1 %s -o %s %s/source.c 2>/dev/null", flags[i], path, directory);
	return system(command) == 0 ? path : NULL;
}

static bool everything(const char *name) { return (void)name, true; }
static bool is_get(const char *name) { return strcmp(name, "get") == 0; }
static bool read_copy(const struct image_copy *copy, struct relocs *out) { return relocs_read(copy->bias, copy->phdr, copy->phnum, out); }

// ---- sound objects -----------------------------------------------------------------------------------

// As the file's own sections tell it: how many slots have a name.
static unsigned named_in_sections(const struct image_copy *copy)
{
	static const char *const names[] = {".rela.plt", ".rela.dyn"};
	unsigned count = 0;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		const Elf64_Shdr *section = image_copy_section(copy, names[i]);
		const Elf64_Rela *rela = section ? (const Elf64_Rela *)(copy->file + section->sh_offset) : NULL;
		for (size_t r = 0; rela && r < section->sh_size / sizeof(*rela); r++) {
			unsigned type = ELF64_R_TYPE(rela[r].r_info);
			count += ELF64_R_SYM(rela[r].r_info) && !rela[r].r_addend && rela[r].r_offset % 8 == 0 &&
				 (type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT || type == R_X86_64_64);
		}
	}
	return count;
}

static void check_slot(const struct relocs *object, const struct relocs_slot *slot)
{
	const struct elf_image *image = &object->image;
	CHECK(elf_image_readable(image, (uintptr_t)slot->place, 8) && (uintptr_t)slot->place % 8 == 0);
	CHECK(elf_image_readable(image, (uintptr_t)slot->name, strlen(slot->name) + 1));
	CHECK((slot->kind == RELOCS_VARIABLE) <= !relocs_in_relro(object, (uintptr_t)slot->place));
	CHECK((*(volatile uintptr_t *)slot->place, true)); // faults if it is nowhere
}

static unsigned count_slots(const struct relocs *object, bool (*wanted)(const char *))
{
	struct relocs_cursor cursor = {0, 0};
	struct relocs_slot slot;
	unsigned count = 0;
	while (relocs_next(object, &cursor, wanted, &slot)) {
		check_slot(object, &slot);
		count++;
	}
	CHECK(!relocs_next(object, &cursor, wanted, &slot));
	return count;
}

static void test_libraries(void)
{
	static const char *const names[] = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libdl.so.2"};
	unsigned seen = 0;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		struct link_map *map = dlopen(names[i], RTLD_NOW);
		if (!map)
			continue;
		struct image_copy copy = image_copy_open(map->l_name);
		struct relocs object;
		CHECK(read_copy(&copy, &object));
		CHECK_EQUAL(count_slots(&object, everything), named_in_sections(&copy));
		image_copy_close(&copy);
		seen++;
	}
	CHECK(seen >= 3);
}

// Who may change a slot, and whether the object defines the name itself, in each way to link.
static void test_kinds(void)
{
	unsigned built = 0;
	for (unsigned i = 0; i < ARRAY_LEN(flags); i++) {
		const char *path = build(i);
		if (!path)
			continue;
		built++;
		struct image_copy copy = image_copy_open(path);
		struct relocs object;
		struct relocs_cursor cursor = {0, 0};
		struct relocs_slot slot;
		unsigned variables = 0, constants = 0, calls = 0, weak = 0, own = 0;
		CHECK(read_copy(&copy, &object));
		CHECK_EQUAL(count_slots(&object, everything), named_in_sections(&copy));
		CHECK_EQUAL(object.symbolic, i == 8);
		bool relro = object.relro_low < object.relro_high;
		CHECK_EQUAL(relro, i != 2);
		while (relocs_next(&object, &cursor, everything, &slot)) {
			CHECK(slot.writable);
			weak += slot.weak && strcmp(slot.name, "maybe") == 0;
			own += slot.own == copy.bias + 0 ? 0 : strcmp(slot.name, "mine") == 0;
			CHECK(strcmp(slot.name, "get") != 0 || !slot.own);
			if (!is_get(slot.name))
				continue;
			variables += slot.kind == RELOCS_VARIABLE;
			constants += slot.kind == RELOCS_FIXED;
			calls += slot.kind == RELOCS_CALL;
		}
		CHECK(weak >= 1);
		CHECK(i == 8 || own >= 1); // -Bsymbolic leaves nothing to bind
		CHECK_EQUAL(variables, relro ? 1 : 2);
		CHECK_EQUAL(calls, i == 3 ? 0 : 1);
		CHECK_EQUAL(constants, (relro ? 1 : 0) + (i == 3 ? 1 : 0));
		image_copy_close(&copy);
	}
	CHECK(built >= 6);
}

// ---- damaged ones ------------------------------------------------------------------------------------

static void damage(const struct image_copy *copy, unsigned rounds)
{
	static const char *const sections[] = {".dynamic", ".rela.plt", ".rela.dyn", ".dynsym", ".dynstr"};
	unsigned found = 0;
	for (unsigned round = 0; round < rounds; round++) {
		uint8_t *at[32], old[32];
		unsigned changes = 1 + (unsigned)random_below(&random_state, 32);
		for (unsigned i = 0; i < changes; i++) {
			const Elf64_Shdr *section = image_copy_section(copy, sections[random_below(&random_state, ARRAY_LEN(sections))]);
			at[i] = (uint8_t *)(copy->bias + section->sh_addr + random_below(&random_state, section->sh_size));
			old[i] = *at[i];
			*at[i] = (uint8_t)(random_below(&random_state, 3) ? next_random(&random_state) : random_below(&random_state, 2) ? 0xff : 0);
		}
		struct relocs object;
		CHECK(read_copy(copy, &object));
		found += count_slots(&object, everything) > 0;
		for (unsigned i = changes; i-- > 0;)
			*at[i] = old[i];
	}
	CHECK(found > rounds / 8 && found < rounds); // most changes leave something to walk, some nothing
}

// Headers that lie about everything but what is mapped.
static void damage_headers(const struct image_copy *copy, unsigned rounds)
{
	Elf64_Phdr phdr[32];
	CHECK(copy->phnum <= ARRAY_LEN(phdr));
	for (unsigned round = 0; round < rounds; round++) {
		memcpy(phdr, copy->phdr, copy->phnum * sizeof(phdr[0]));
		for (unsigned i = 0; i < copy->phnum; i++) {
			if (phdr[i].p_type == PT_LOAD || random_below(&random_state, 2))
				continue;
			uint64_t *field = random_below(&random_state, 2) ? &phdr[i].p_vaddr : &phdr[i].p_memsz;
			*field = random_below(&random_state, 2) ? next_random(&random_state) : random_below(&random_state, 1 << 20);
			phdr[i].p_type = random_below(&random_state, 2) ? PT_DYNAMIC : PT_GNU_RELRO;
		}
		struct relocs object;
		CHECK(relocs_read(copy->bias, phdr, copy->phnum, &object));
		count_slots(&object, everything);
	}
}

// A string table at the very end of what is mapped, and none of its names ends.
static void test_endless_name(void)
{
	struct {
		Elf64_Dyn dynamic[8];
		Elf64_Sym symbol[2];
		Elf64_Rela rela[1];
		uint64_t slot;
	} *at;
	uint8_t *pages = mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(pages != MAP_FAILED && mprotect(pages + PAGE_BYTES, PAGE_BYTES, PROT_NONE) == 0);
	at = (void *)pages;
	Elf64_Addr bias = (Elf64_Addr)pages, strings = bias + PAGE_BYTES - 4;
	Elf64_Phdr phdr[2] = {{.p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_memsz = PAGE_BYTES},
			      {.p_type = PT_DYNAMIC, .p_memsz = sizeof(at->dynamic)}};
	Elf64_Dyn dynamic[8] = {{DT_SYMTAB, {(Elf64_Addr)at->symbol}}, {DT_STRTAB, {strings}}, {DT_STRSZ, {4}},
				{DT_RELA, {(Elf64_Addr)at->rela}}, {DT_RELASZ, {sizeof(at->rela)}}};
	memcpy(at->dynamic, dynamic, sizeof(dynamic));
	at->rela[0] = (Elf64_Rela){.r_offset = (Elf64_Addr)&at->slot - bias, .r_info = ELF64_R_INFO(1, R_X86_64_GLOB_DAT)};
	at->symbol[1].st_name = 1;
	memcpy(pages + PAGE_BYTES - 4, "aget", 4);
	struct relocs object;
	CHECK(relocs_read(bias, phdr, 2, &object) && count_slots(&object, is_get) == 0);
	memcpy(pages + PAGE_BYTES - 4, "age\0", 4);
	CHECK(relocs_read(bias, phdr, 2, &object) && count_slots(&object, everything) == 1);
	at->rela[0].r_offset += 4; // not a whole word
	CHECK(count_slots(&object, everything) == 0);
	at->rela[0].r_offset = PAGE_BYTES - 4; // over the end
	CHECK(count_slots(&object, everything) == 0);
	at->rela[0].r_offset = -bias; // far away
	CHECK(count_slots(&object, everything) == 0);
	munmap(pages, 2 * PAGE_BYTES);
}

int main(int argc, char **argv)
{
	unsigned rounds = long_run(argc, argv) ? 200000 : 2000;
	CHECK(mkdtemp(directory) != NULL);
	char path[128];
	snprintf(path, sizeof(path), "%s/source.c", directory);
	FILE *file = fopen(path, "w");
	CHECK(file && fputs(source, file) >= 0 && fclose(file) == 0);
	test_libraries();
	test_kinds();
	test_endless_name();
	struct image_copy copy = image_copy_open(build(0));
	damage(&copy, 10 * rounds);
	damage_headers(&copy, 10 * rounds);
	image_copy_close(&copy);
	struct link_map *libc = dlopen("libc.so.6", RTLD_NOW);
	copy = image_copy_open(libc->l_name);
	damage(&copy, rounds);
	image_copy_close(&copy);
	remove_directory(directory);
	return harness_end();
}
