// recording.h -- the mapped file: opened, backed as it fills, closed
//
// Layer 5. Cold. What sampled code does with it: recording_room.h.
#ifndef MEMLEAK_RECORDING_H
#define MEMLEAK_RECORDING_H

#include "memleak_format.h"
#include "recording_room.h"

#define RECORDING_CAP_DEFAULT (32U << 20)
#define RECORDING_START_BYTES (3U << 20)
#define RECORDING_STEP_BYTES (1U << 20)

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

// Back more room if that is wise. True if something was added.
bool recording_grow(void);

// The same as far as the last look at the place allowed: no file is opened. For an allocator's own cold moments, in which
// a program that has shut itself off from files must not be killed for us.
bool recording_grow_as_allowed(void);

void recording_close(enum mlf_state state); // marks the end, unmaps nothing

#endif
