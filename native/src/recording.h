// recording.h -- the mapped file: header, room, segments
//
// The core writes its tables straight into this mapping. "Room" is address space with memory behind
// it: handed out by a bump pointer, never given back, so a pointer into it stays good for ever.
// Sampled code takes room but never backs it; recording_grow() does, in cold code.
//
// Layer 5. recording_take(), recording_segment() and recording_add_segment() are sampled; the rest
// is cold.
#ifndef MEMLEAK_RECORDING_H
#define MEMLEAK_RECORDING_H

#include "atomics.h"
#include "memleak_format.h"

#define RECORDING_CAP_DEFAULT (32U << 20)
#define RECORDING_START_BYTES (3U << 20)
#define RECORDING_STEP_BYTES (1U << 20)
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

struct recording_options {
	uint64_t interval, python_interval, sample_bytes, run_id, seed;
	uint32_t cap_bytes, start_bytes, mmap_always_bytes;
	uint32_t door; // enum mlf_door
	uint32_t max_frames; // 0 = MAX_FRAMES
	uint32_t budget_ppm; // 0: no governor
	const char *focus; // to begin with, see focus.h; NULL or "" = none
	bool native_off; // only what comes by Python's allocators is sampled
	const char *directory; // MEMLEAK_DIR; NULL or "" = the usual places
	const char *runtime_directory; // XDG_RUNTIME_DIR
	const char *keep_directory; // MEMLEAK_KEEP_DIR; NULL or "" = none
	uint64_t parent_recording_id;
	const uint8_t *build_id;
	uint32_t build_id_bytes;
};

// Opens a new recording, at the place of the one before if it fits there: no thread may be in sampled code
// then. Always succeeds while there is address space at all: what cannot be a file
// becomes private memory, and *why says so. False: not even that.
bool recording_open(const struct recording_options *options, const char **why);

// Back more room if that is wise; cold. True if something was added.
bool recording_grow(void);

// The same as far as the last look at the place allowed: no file is opened. For an allocator's own cold moments, in which
// a program that has shut itself off from files must not be killed for us.
bool recording_grow_as_allowed(void);

void recording_close(enum mlf_state state); // cold; marks the end, unmaps nothing

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

#endif
