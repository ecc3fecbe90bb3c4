// test_elfimage.c -- what is read from loaded objects, and that damaged ones do no harm
#include "harness.h"
#include "image_copy.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/auxv.h>

static uint64_t random_state = 0x452821E638D01377;
static uint64_t random_u64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545F4914F6CDD1D;
}

static struct link_map *libc_map(void)
{
	Dl_info info;
	struct link_map *map = NULL;
	dladdr1(dlsym(RTLD_DEFAULT, "gnu_get_libc_version"), &info, (void **)&map, RTLD_DL_LINKMAP);
	return map;
}

struct wanted {
	uintptr_t bias;
	struct elf_image image;
	bool found;
};

static int take_image(struct dl_phdr_info *info, size_t bytes, void *to)
{
	struct wanted *wanted = to;
	(void)bytes;
	wanted->found = info->dlpi_addr == wanted->bias &&
			elf_image_from_phdrs(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum, &wanted->image);
	return wanted->found;
}

static struct elf_image loaded_image(uintptr_t bias)
{
	struct wanted wanted = {.bias = bias};
	dl_iterate_phdr(take_image, &wanted);
	CHECK(wanted.found);
	return wanted.image;
}

static void same_images(const struct elf_image *a, const struct elf_image *b)
{
	CHECK_EQUAL(a->bias, b->bias);
	CHECK_EQUAL(a->low, b->low);
	CHECK_EQUAL(a->high, b->high);
	CHECK_EQUAL(a->text_low, b->text_low);
	CHECK_EQUAL(a->text_high, b->text_high);
	CHECK(a->eh_frame_hdr == b->eh_frame_hdr && a->dynamic == b->dynamic);
	CHECK(a->build_id_bytes == b->build_id_bytes && memcmp(a->build_id, b->build_id, a->build_id_bytes) == 0);
}

// Three ways to the same object.
static void test_ways_in(void)
{
	struct link_map *map = libc_map();
	struct elf_image from_phdrs = loaded_image(map->l_addr), from_header, from_dynamic;
	CHECK(elf_image_from_header(from_phdrs.low, &from_header));
	same_images(&from_phdrs, &from_header);
	CHECK(elf_image_from_dynamic(map->l_addr, map->l_ld, &from_dynamic));
	CHECK(from_dynamic.low >= from_phdrs.low && from_dynamic.high <= from_phdrs.high);
	CHECK((uintptr_t)dlsym(RTLD_DEFAULT, "gnu_get_libc_version") - from_dynamic.low < from_dynamic.high - from_dynamic.low);

	struct image_copy copy = image_copy_open(map->l_name);
	CHECK_EQUAL(copy.image.high - copy.image.low, from_phdrs.high - from_phdrs.low);
	const Elf64_Shdr *note = image_copy_section(&copy, ".note.gnu.build-id");
	CHECK(note && from_phdrs.build_id_bytes == note->sh_size - 16);
	CHECK(note && memcmp(from_phdrs.build_id, copy.file + note->sh_offset + 16, note->sh_size - 16) == 0);
	CHECK(memcmp((void *)(copy.image.low + copy.image.build_id_offset), copy.image.build_id, copy.image.build_id_bytes) == 0);
	image_copy_close(&copy);
}

// Every symbol that libc defines: equal to dlsym()'s answer, by each way in, relocated or not.
static void test_all_symbols(void)
{
	struct link_map *map = libc_map();
	struct elf_image loaded = loaded_image(map->l_addr), dynamic;
	CHECK(elf_image_from_dynamic(map->l_addr, map->l_ld, &dynamic));
	struct image_copy copy = image_copy_open(map->l_name);
	void *handle = dlopen(map->l_name, RTLD_NOW | RTLD_NOLOAD);
	const Elf64_Shdr *section = image_copy_section(&copy, ".dynsym"), *strings = image_copy_section(&copy, ".dynstr");
	const Elf64_Shdr *versions = image_copy_section(&copy, ".gnu.version");
	const Elf64_Sym *symbols = (const Elf64_Sym *)(copy.file + section->sh_offset);
	const uint16_t *version = (const uint16_t *)(copy.file + versions->sh_offset);
	unsigned compared = 0, indirect = 0;
	for (size_t i = 1; i < section->sh_size / sizeof symbols[0]; i++) {
		const char *name = (const char *)copy.file + strings->sh_offset + symbols[i].st_name;
		int type = ELF64_ST_TYPE(symbols[i].st_info);
		if (symbols[i].st_shndx == SHN_UNDEF || symbols[i].st_shndx == SHN_ABS || version[i] & 0x8000)
			continue;
		uintptr_t expected = type == STT_GNU_IFUNC || type == STT_TLS ? 0 : (uintptr_t)dlsym(handle, name);
		size_t bytes;
		indirect += type == STT_GNU_IFUNC;
		CHECK_EQUAL(elf_image_symbol(&loaded, name, &bytes), expected);
		CHECK(expected == 0 || bytes == symbols[i].st_size);
		CHECK_EQUAL(elf_image_symbol(&dynamic, name, NULL), expected);
		CHECK_EQUAL(elf_image_symbol(&copy.image, name, NULL), expected ? copy.bias + symbols[i].st_value : 0);
		compared++;
	}
	CHECK(compared > 1000 && indirect > 10);
	CHECK_EQUAL(elf_image_symbol(&loaded, "no_such_symbol", NULL), 0);
	CHECK_EQUAL(elf_image_symbol(&loaded, "", NULL), 0);
	// Two versions: the default one, not the older hidden one.
	CHECK_EQUAL(elf_image_symbol(&loaded, "pthread_cond_wait", NULL), (uintptr_t)dlsym(handle, "pthread_cond_wait"));
	// Only hidden versions: better than none.
	CHECK(elf_image_symbol(&loaded, "__malloc_hook", NULL) || !dlvsym(handle, "__malloc_hook", "GLIBC_2.2.5"));
	image_copy_close(&copy);
	dlclose(handle);
}

static void test_search_order(void)
{
	CHECK_EQUAL(elf_next_symbol((uintptr_t)test_search_order, "malloc"), (uintptr_t)dlsym(RTLD_NEXT, "malloc"));
	CHECK_EQUAL(elf_global_symbol("malloc"), (uintptr_t)dlsym(RTLD_DEFAULT, "malloc"));
	CHECK_EQUAL(elf_global_symbol("__libc_stack_end"), (uintptr_t)dlsym(RTLD_DEFAULT, "__libc_stack_end"));
	CHECK_EQUAL(elf_next_symbol((uintptr_t)&random_state ^ 1UL << 46, "malloc"), 0);
	CHECK_EQUAL(elf_next_symbol((uintptr_t)dlsym(RTLD_DEFAULT, "gnu_get_libc_version"), "gnu_get_libc_version"), 0);
	CHECK_EQUAL(elf_global_symbol("no_such_symbol"), 0);
	struct elf_image vdso;
	uintptr_t start = getauxval(AT_SYSINFO_EHDR);
	if (start) { // its dynamic section is not relocated in place
		CHECK(elf_image_from_header(start, &vdso));
		uintptr_t function = elf_image_symbol(&vdso, "__vdso_clock_gettime", NULL);
		CHECK(function > start && function < vdso.high);
		CHECK_EQUAL(elf_global_symbol("__vdso_clock_gettime"), function);
	}
}

static void test_layouts(void)
{
	static const char *const flags[] = {
	    "-Wl,--hash-style=sysv", "-Wl,--hash-style=gnu", "-Wl,--hash-style=both", "-Wl,-Ttext-segment=0x10000000",
	    "-Wl,-z,separate-code", "-Wl,-z,noseparate-code", "-Wl,-z,max-page-size=0x200000", "-Wl,--build-id=none",
	    "-fuse-ld=lld", "-fuse-ld=gold", "-Wl,-z,execstack",
	};
	char path[] = "/tmp/memleak-elfimage-XXXXXX", command[512];
	int fd = mkstemp(path);
	close(fd);
	unsigned built = 0;
	for (unsigned i = 0; i < ARRAY_LEN(flags); i++) {
		snprintf(command, sizeof command,
			 "printf 'int one(void){return 1;} int two=2; static int hidden(void){return 3;}"
			 "int three(void){return hidden();}' | cc -shared -fPIC %s -x c - -o %s 2>/dev/null", flags[i], path);
		void *handle = system(command) == 0 ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
		if (!handle)
			continue;
		built++;
		struct link_map *map = handle;
		struct elf_image loaded = loaded_image(map->l_addr), header, dynamic;
		CHECK(elf_image_from_header(loaded.low, &header));
		same_images(&loaded, &header);
		CHECK(elf_image_from_dynamic(map->l_addr, map->l_ld, &dynamic));
		static const char *const names[] = {"one", "two", "three", "four"};
		for (unsigned n = 0; n < ARRAY_LEN(names); n++) {
			CHECK_EQUAL(elf_image_symbol(&loaded, names[n], NULL), (uintptr_t)dlsym(handle, names[n]));
			CHECK_EQUAL(elf_image_symbol(&dynamic, names[n], NULL), (uintptr_t)dlsym(handle, names[n]));
		}
		CHECK_EQUAL(elf_next_symbol((uintptr_t)dlsym(handle, "one"), "one"), 0);
		CHECK_EQUAL(elf_global_symbol("three"), (uintptr_t)dlsym(handle, "three"));
		CHECK(loaded.build_id_bytes == 20 || i == 7 || i >= 8);
		dlclose(handle);
	}
	CHECK(built >= 7);
	unlink(path);
}

// What an object's headers place where no loader would read it, a word across two, is not there.
static void test_odd_places(void)
{
	static _Alignas(PAGE_BYTES) uint8_t page[PAGE_BYTES];
	static const uint32_t words[] = {4, 20, NT_GNU_BUILD_ID, 0x554e47 /* "GNU" */, 1, 2, 3, 4, 5};
	for (unsigned odd = 0; odd < 8; odd++) {
		Elf64_Phdr phdr[] = {{.p_type = PT_LOAD, .p_flags = PF_R, .p_memsz = PAGE_BYTES},
				     {.p_type = PT_NOTE, .p_vaddr = 512 + odd, .p_memsz = sizeof words},
				     {.p_type = PT_DYNAMIC, .p_vaddr = 1024 + odd, .p_memsz = 512}};
		struct elf_image image;
		memcpy(page + 512 + odd, words, sizeof words);
		CHECK(elf_image_from_phdrs((uintptr_t)page, phdr, ARRAY_LEN(phdr), &image));
		CHECK_EQUAL(image.build_id_bytes, odd % 4 ? 0 : 20);
		CHECK_EQUAL(image.dynamic != NULL, odd == 0);
		memset(page, 0, sizeof page);
	}
}

// Headers whose first segment is not the lowest do not tell where the object begins: nothing below them is read.
static void test_first_not_lowest(void)
{
	uint8_t *pages = mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr phdr[3];
	} *at = (void *)(pages + PAGE_BYTES);
	CHECK(pages != MAP_FAILED && mprotect(pages, PAGE_BYTES, PROT_NONE) == 0);
	at->header = (Elf64_Ehdr){.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64}, .e_phentsize = sizeof at->phdr[0],
				  .e_phoff = sizeof at->header, .e_phnum = 3};
	at->phdr[0] = (Elf64_Phdr){.p_type = PT_LOAD, .p_flags = PF_R, .p_vaddr = PAGE_BYTES, .p_memsz = PAGE_BYTES};
	at->phdr[1] = (Elf64_Phdr){.p_type = PT_LOAD, .p_flags = PF_R, .p_memsz = PAGE_BYTES, .p_offset = PAGE_BYTES};
	at->phdr[2] = (Elf64_Phdr){.p_type = PT_NOTE, .p_vaddr = 64, .p_memsz = 36};
	struct elf_image image;
	CHECK(!elf_image_from_header((uintptr_t)at, &image));
	at->header.e_phnum = 1;
	CHECK(elf_image_from_header((uintptr_t)at, &image));
	munmap(pages, 2 * PAGE_BYTES);
}

// Any bytes in headers and tables: no fault, no endless loop.
static void test_damaged(unsigned rounds)
{
	static const char *const names[] = {"malloc", "qsort", "no_such_symbol", "pthread_cond_wait", "memcpy"};
	static const char *const sections[] = {".gnu.hash", ".dynsym", ".dynstr", ".gnu.version", ".dynamic", ".note.gnu.build-id"};
	struct image_copy copy = image_copy_open(libc_map()->l_name);
	unsigned found = 0;
	for (unsigned round = 0; round < rounds; round++) {
		uint8_t *at[32], old[32];
		unsigned changes = 1 + (unsigned)(random_u64() % 32);
		for (unsigned i = 0; i < changes; i++) {
			const Elf64_Shdr *section = image_copy_section(&copy, sections[random_u64() % ARRAY_LEN(sections)]);
			uint64_t room = section->sh_size;
			if (random_u64() % 2 && room > 64)
				room = 64; // the heads of tables say where the rest is
			at[i] = (uint8_t *)(copy.bias + section->sh_addr + random_u64() % room);
			old[i] = *at[i];
			*at[i] = (uint8_t)(random_u64() % 3 ? random_u64() : random_u64() % 2 ? 0xff : 0);
		}
		struct elf_image image;
		CHECK(elf_image_from_phdrs(copy.bias, copy.phdr, copy.phnum, &image));
		for (unsigned n = 0; n < ARRAY_LEN(names); n++)
			found += elf_image_symbol(&image, names[n], NULL) != 0;
		for (unsigned i = changes; i-- > 0;)
			*at[i] = old[i];
	}
	CHECK(found > rounds && found < 4 * rounds);

	// A first page of anything.
	uint8_t *pages = mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(pages + PAGE_BYTES, PAGE_BYTES, PROT_NONE);
	Elf64_Ehdr *header = (Elf64_Ehdr *)pages;
	struct elf_image image;
	CHECK(!elf_image_from_header((uintptr_t)pages, &image));
	for (unsigned round = 0; round < rounds; round++) {
		memcpy(pages, copy.file, PAGE_BYTES);
		header->e_phoff = random_u64() % 3 ? random_u64() % 5000 : random_u64();
		header->e_phnum = (Elf64_Half)random_u64();
		// No segment may be believed here: without one there is nothing to read.
		for (size_t i = sizeof *header; i + 4 <= PAGE_BYTES; i += 4)
			if (*(uint32_t *)(pages + i) == PT_LOAD)
				*(uint32_t *)(pages + i) = PT_NULL;
		CHECK(!elf_image_from_header((uintptr_t)pages, &image));
	}
	munmap(pages, 2 * PAGE_BYTES);
	image_copy_close(&copy);
}

int main(int argc, char **argv)
{
	test_ways_in();
	test_all_symbols();
	test_search_order();
	test_layouts();
	test_odd_places();
	test_first_not_lowest();
	test_damaged(long_run(argc, argv) ? 1000000 : 20000);
	return harness_end();
}
