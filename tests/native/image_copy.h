// image_copy.h -- an ELF file laid out in private memory as the loader would, to be damaged at will
//
// Pages that belong to no segment, and those around the whole, fault.
#ifndef IMAGE_COPY_H
#define IMAGE_COPY_H

#include "elfimage.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct image_copy {
	const uint8_t *file;
	size_t file_bytes;
	uint8_t *reserved;
	size_t reserved_bytes;
	uintptr_t bias;
	const Elf64_Phdr *phdr;
	unsigned phnum;
	struct elf_image image;
};

static inline void image_copy_fill(const struct image_copy *copy)
{
	for (unsigned i = 0; i < copy->phnum; i++) {
		const Elf64_Phdr *phdr = &copy->phdr[i];
		if (phdr->p_type != PT_LOAD)
			continue;
		uintptr_t start = copy->bias + phdr->p_vaddr;
		uintptr_t low = round_down(start, PAGE_BYTES), high = round_up(start + phdr->p_memsz, PAGE_BYTES);
		mprotect((void *)low, high - low, PROT_READ | PROT_WRITE);
		memset((void *)low, 0, high - low);
		size_t before = start - low < phdr->p_offset ? start - low : phdr->p_offset;
		memcpy((void *)(start - before), copy->file + phdr->p_offset - before, phdr->p_filesz + before);
	}
}

static inline struct image_copy image_copy_open(const char *path)
{
	struct image_copy copy = {0};
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) != 0) {
		perror(path);
		exit(1);
	}
	copy.file_bytes = (size_t)status.st_size;
	copy.file = mmap(NULL, copy.file_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)copy.file;
	copy.phdr = (const Elf64_Phdr *)(copy.file + header->e_phoff);
	copy.phnum = header->e_phnum;
	uintptr_t low = UINTPTR_MAX, high = 0;
	for (unsigned i = 0; i < copy.phnum; i++)
		if (copy.phdr[i].p_type == PT_LOAD) {
			uintptr_t start = round_down(copy.phdr[i].p_vaddr, PAGE_BYTES);
			uintptr_t end = round_up(copy.phdr[i].p_vaddr + copy.phdr[i].p_memsz, PAGE_BYTES);
			low = start < low ? start : low;
			high = end > high ? end : high;
		}
	copy.reserved_bytes = high - low + 2 * PAGE_BYTES;
	copy.reserved = mmap(NULL, copy.reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	copy.bias = (uintptr_t)copy.reserved + PAGE_BYTES - low;
	image_copy_fill(&copy);
	if (!elf_image_from_phdrs(copy.bias, copy.phdr, copy.phnum, &copy.image))
		exit(1);
	return copy;
}

static inline void image_copy_close(struct image_copy *copy)
{
	munmap((void *)copy->file, copy->file_bytes);
	munmap(copy->reserved, copy->reserved_bytes);
}

// The section of that name in the file; NULL: none.
static inline const Elf64_Shdr *image_copy_section(const struct image_copy *copy, const char *name)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)copy->file;
	const Elf64_Shdr *sections = (const Elf64_Shdr *)(copy->file + header->e_shoff);
	const char *names = (const char *)copy->file + sections[header->e_shstrndx].sh_offset;
	for (unsigned i = 0; i < header->e_shnum; i++)
		if (strcmp(names + sections[i].sh_name, name) == 0)
			return &sections[i];
	return NULL;
}

#endif
