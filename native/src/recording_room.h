// recording_room.h -- room in the recording, and its tables' segments
//
// The core writes its tables straight into the mapped file. "Room" is address space with memory behind
// it: handed out by a bump pointer, never given back, so a pointer into it stays good for ever.
// Sampled code takes room but never backs it; recording_grow() does, in cold code.
//
// Layer 4. Sampled, but recording_room_begin().
#ifndef MEMLEAK_RECORDING_ROOM_H
#define MEMLEAK_RECORDING_ROOM_H

#include "atomics.h"
#include "memleak_format.h"

#define RECORDING_PATH_MAX 512

struct recording {
	unsigned char *base; // NULL: none yet
	struct mlf_header *header;
	uint64_t secret;     // live keys are address XOR this; 48 bits
	uint32_t number;     // 1, 2, … of this process; threads compare it to their thread id's
	bool is_private;     // in private memory: no file could be had
	const char *private_why; // what is wrong with the last directory tried; never NULL
	const char *asked_why; // what is wrong with the directory that was asked for; NULL: nothing
	const char *keep_why; // what is wrong with the directory to keep copies in; NULL: nothing
	const char *copies_directory[2]; // get copies (copies.h): the one asked for, if not on tmpfs; the one to keep them in
	char path[RECORDING_PATH_MAX];
};
extern struct recording recording HIDDEN;

// `bytes` of zeroed, backed room on a multiple of `alignment` (a power of two, >= 16); NULL if there is
// none (the caller counts it under its own name).
void *recording_take(uint32_t bytes, uint32_t alignment);

static inline uint32_t recording_ref(const void *record)
{
	return (uint32_t)(((const unsigned char *)record - recording.base) / MLF_REF_BYTES);
}
static inline void *recording_at(uint32_t ref) { return recording.base + (uint64_t)ref * MLF_REF_BYTES; }

// Segments of one kind, in order; NULL past the last. `order` < RECORDING_SEGMENTS.
#define RECORDING_SEGMENTS 12U
struct recording_table {
	unsigned char *base; // NULL: none yet; stored last
	uint32_t capacity;
};
extern struct recording_table recording_tables[MLF_KIND_PINS + 1][RECORDING_SEGMENTS] HIDDEN;

static inline const struct recording_table *recording_segment(enum mlf_kind kind, unsigned order)
{
	if (order >= RECORDING_SEGMENTS)
		return NULL;
	const struct recording_table *table = &recording_tables[kind][order];
	// Acquire: pairs with the release at the end of recording_add_segment().
	return load_acquire(&table->base) ? table : NULL;
}

// How many there are: the one behind them may be added meanwhile.
static inline unsigned recording_segments(enum mlf_kind kind)
{
	unsigned count = 0;
	while (recording_segment(kind, count))
		count++;
	return count;
}

// Adds segment `order` of `kind` unless it exists. False: no room, or another thread is at it.
bool recording_add_segment(enum mlf_kind kind, unsigned order, uint32_t capacity, uint32_t bytes_each);

// From now on room is that of the recording of this header, which has no segment yet. Nobody is in sampled code.
void recording_room_begin(struct mlf_header *header);

#endif
