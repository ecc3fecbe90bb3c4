// section.h -- the sections of one file of debug information
//
// They are read, never mapped: a file that is truncated in place would kill the reader, which may be the very service that
// is looked at. What had to be inflated comes as memory.
#ifndef MEMLEAK_SYMBOLIZE_SECTION_H
#define MEMLEAK_SYMBOLIZE_SECTION_H

#include "bytes.h"

enum section_id {
	SECTION_ABBREV,
	SECTION_ADDR,
	SECTION_ARANGES,
	SECTION_INFO,
	SECTION_LINE,
	SECTION_LINE_STR,
	SECTION_RANGES,
	SECTION_RNGLISTS,
	SECTION_STR,
	SECTION_STR_OFFSETS,
	SECTION_COUNT
};

struct section {
	int fd; // -1: there is none, or it is in memory
	uint64_t offset, size;
	const uint8_t *memory; // all of it, or NULL
	uint8_t *own;	       // `memory` that is ours to free
};

// The whole of a section as a cursor; read on first use. Empty if it is not there or cannot be read.
struct bytes section_all(struct section *section);

// From an offset on, in the whole of it.
struct bytes section_from(struct section *section, uint64_t offset);

// A part of a section, without reading the rest: in memory if it is there, else into `buffer`. Shorter at the end.
struct bytes section_part(const struct section *section, uint64_t offset, size_t size, uint8_t *buffer);

void section_close(struct section *section);

#endif
