// section.c -- reading sections: all of one, or a part of a large one
//
// Invariant: nothing beyond a section's size, nor beyond the file's end, is given out.
// Proof:     tests/unit/test_symbolize_dwarf.py, tests/unit/test_symbolize_engine.py, tests/fuzz/fuzz_symbolize.c
#include "section.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

// How many bytes came; fewer at the end of the file or if it cannot be read.
static size_t read_at(int fd, uint8_t *to, size_t size, uint64_t offset)
{
	size_t done = 0;
	while (done < size) {
		ssize_t n = pread(fd, to + done, size - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

struct bytes section_all(struct section *section)
{
	if (!section->memory && section->fd >= 0 && section->size) {
		section->own = malloc(section->size);
		if (!section->own) {
			section->size = 0;
			return bytes_none();
		}
		section->size = read_at(section->fd, section->own, section->size, section->offset);
		section->memory = section->own;
	}
	return section->memory ? (struct bytes){section->memory, section->memory + section->size, false} : bytes_none();
}

struct bytes section_from(struct section *section, uint64_t offset)
{
	struct bytes all = section_all(section);
	if (offset > bytes_left(&all))
		bytes_fail(&all);
	else
		all.at += offset;
	return all;
}

struct bytes section_part(const struct section *section, uint64_t offset, size_t size, uint8_t *buffer)
{
	if (offset >= section->size)
		return bytes_none();
	if (size > section->size - offset)
		size = (size_t)(section->size - offset);
	if (section->memory)
		return (struct bytes){section->memory + offset, section->memory + offset + size, false};
	if (section->fd < 0)
		return bytes_none();
	size = read_at(section->fd, buffer, size, section->offset + offset);
	return (struct bytes){buffer, buffer + size, false};
}

void section_close(struct section *section)
{
	free(section->own);
	*section = (struct section){.fd = -1};
}
