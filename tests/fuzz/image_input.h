// image_input.h -- a fuzzer's input as a loaded object: nothing is mapped but what its program headers say
//
// The input is the object's memory from its first page on. Of the headers only where segments lie is corrected, so that
// they stay in the room kept for them: the loader mapped those, and readers may rely on it. All else is as it comes.
#ifndef IMAGE_INPUT_H
#define IMAGE_INPUT_H

#include "elfimage.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define INPUT_PAGES 16U
#define INPUT_BYTES ((size_t)INPUT_PAGES * PAGE_BYTES)
#define INPUT_AT 0x200000000000UL // always the same, so that an input that names an address means it

struct image_input {
	const Elf64_Phdr *phdr;
	unsigned count;
};

// A page that faults on each side.
static inline uint8_t *image_input_room(void)
{
	static uint8_t *room;
	if (!room) {
		uint8_t *at = mmap((void *)(INPUT_AT - PAGE_BYTES), INPUT_BYTES + 2 * PAGE_BYTES, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (at != (void *)(INPUT_AT - PAGE_BYTES))
			abort();
		room = at + PAGE_BYTES;
	}
	return room;
}

// False: there are no program headers on its first page, behind the file's own: what is corrected in them would change that.
static inline bool image_input_lay_out(const uint8_t *data, size_t bytes, struct image_input *out)
{
	uint8_t *room = image_input_room();
	if (bytes < sizeof(Elf64_Ehdr))
		return false;
	bytes = bytes < INPUT_BYTES ? bytes : INPUT_BYTES;
	if (mprotect(room, INPUT_BYTES, PROT_READ | PROT_WRITE) != 0)
		abort();
	memcpy(room, data, bytes);
	memset(room + bytes, 0, INPUT_BYTES - bytes);
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)(void *)room;
	if (header->e_phoff < sizeof(*header) || header->e_phoff > PAGE_BYTES || header->e_phoff % 8 ||
	    header->e_phnum > (PAGE_BYTES - header->e_phoff) / sizeof(Elf64_Phdr))
		return false;
	Elf64_Phdr *phdr = (Elf64_Phdr *)(void *)(room + header->e_phoff);
	bool readable[INPUT_PAGES] = {true}, is_first = true;
	for (unsigned i = 0; i < header->e_phnum; i++) {
		if (phdr[i].p_type != PT_LOAD)
			continue;
		phdr[i].p_vaddr %= is_first ? PAGE_BYTES : INPUT_BYTES;
		is_first = false;
		if (phdr[i].p_memsz > INPUT_BYTES - phdr[i].p_vaddr)
			phdr[i].p_memsz = INPUT_BYTES - phdr[i].p_vaddr;
		size_t first = phdr[i].p_vaddr / PAGE_BYTES, end = (phdr[i].p_vaddr + phdr[i].p_memsz + PAGE_BYTES - 1) / PAGE_BYTES;
		for (size_t page = first; page < end; page++)
			readable[page] |= phdr[i].p_memsz && phdr[i].p_flags & PF_R;
	}
	for (unsigned page = 1; page < INPUT_PAGES; page++)
		if (!readable[page] && mprotect(room + page * PAGE_BYTES, PAGE_BYTES, PROT_NONE) != 0)
			abort();
	*out = (struct image_input){phdr, header->e_phnum};
	return true;
}

#endif
