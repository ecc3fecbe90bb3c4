// taker.c -- a tool that is in the way of free() only
//
// take(OBJECT) makes every slot for free in a loaded object, given by the end of its name, lead here; give_back()
// stores what was there. Both return how many slots that were. What comes by goes straight to the C library.
#include <link.h>
#include <string.h>
#include <sys/mman.h>

extern void __libc_free(void *);

static struct {
	void **slot;
	void *was;
} taken[64];
static int count;

static void taken_free(void *p) { __libc_free(p); }

static void store(void **slot, void *value)
{
	mprotect((void *)((ElfW(Addr))slot & ~4095UL), 4096, PROT_READ | PROT_WRITE);
	*slot = value;
}

static int take_of(struct dl_phdr_info *info, size_t size, void *end)
{
	size_t length = strlen(info->dlpi_name), wanted = strlen(end);
	(void)size;
	if (length < wanted || strcmp(info->dlpi_name + length - wanted, end) != 0)
		return 0;
	const ElfW(Dyn) *dynamic = NULL;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
			dynamic = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
	const ElfW(Rela) *table[2] = {NULL, NULL};
	size_t bytes[2] = {0, 0};
	const ElfW(Sym) *symbols = NULL;
	const char *strings = NULL;
	for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++)
		switch (dynamic->d_tag) {
		case DT_JMPREL: table[0] = (const ElfW(Rela) *)dynamic->d_un.d_ptr; break;
		case DT_PLTRELSZ: bytes[0] = dynamic->d_un.d_val; break;
		case DT_RELA: table[1] = (const ElfW(Rela) *)dynamic->d_un.d_ptr; break;
		case DT_RELASZ: bytes[1] = dynamic->d_un.d_val; break;
		case DT_SYMTAB: symbols = (const ElfW(Sym) *)dynamic->d_un.d_ptr; break;
		case DT_STRTAB: strings = (const char *)dynamic->d_un.d_ptr; break;
		}
	for (int t = 0; t < 2; t++)
		for (size_t i = 0; i < bytes[t] / sizeof(ElfW(Rela)) && count < 64; i++) {
			const ElfW(Rela) *r = &table[t][i];
			if (strcmp(strings + symbols[ELF64_R_SYM(r->r_info)].st_name, "free") != 0)
				continue;
			taken[count].slot = (void **)(info->dlpi_addr + r->r_offset);
			taken[count].was = *taken[count].slot;
			store(taken[count++].slot, (void *)&taken_free);
		}
	return 0;
}

int take(char *object)
{
	count = 0;
	dl_iterate_phdr(take_of, object);
	return count;
}

int give_back(void)
{
	for (int i = 0; i < count; i++)
		store(taken[i].slot, taken[i].was);
	return count;
}
