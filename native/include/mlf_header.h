// mlf_header.h -- the header of a recording: whose it is, the knobs, what is in force
//
// A part of memleak_format.h, which has the rules.
#ifndef MLF_HEADER_H
#define MLF_HEADER_H

#include "mlf_counters.h"

#include <stdint.h>

#define MLF_HEADER_BYTES 4096U

// An interval word: min_sample_interval in bits 0..15, max_sample_interval in 16..31, epoch in 32..63. A writer
// stores the whole word with a later epoch in one 8-byte store, so a pair never tears. The process itself takes
// an odd epoch, everybody else an even one.
// 10000/10000 is off, 1/1 is full, anything else is normal.
#define MLF_INTERVAL_MAX 10000U
#define MLF_INTERVAL_OFF 10000U
#define MLF_FOCUS_BYTES 256U // of a focus in words, its NUL included

enum mlf_state {
	MLF_STATE_OPENING = 0,
	MLF_STATE_RECORDING = 1,
	MLF_STATE_STOPPED = 2, // stop() was called: frozen, never written again
	MLF_STATE_EXITED = 3,  // the program ended through exit(); late destructors may still add
};

enum mlf_door { // how the core came into the process
	MLF_DOOR_UNKNOWN = 0,
	MLF_DOOR_PRELOAD = 1,
	MLF_DOOR_IMPORT = 2,
};

struct mlf_header {
	uint64_t magic; // stored last: a file without it was killed while being opened
	uint32_t version;
	uint32_t header_bytes;
	uint64_t file_bytes;  // address space of the file; the room never passes it
	uint64_t room_used;   // bump pointer, file offset of the first byte not handed out
	uint64_t room_backed; // bytes [0, room_backed) have memory behind them
	uint32_t segment_count; // directory entries ever claimed; an entry is valid once its kind != 0
	uint32_t state;         // enum mlf_state

	// identity: never changes after the magic is stored
	uint64_t recording_id; // random
	uint64_t run_id;       // random per `memleak run`, inherited; 0 = none
	uint32_t pid, parent_pid;
	uint64_t start_ticks;        // field 22 of /proc/PID/stat: with pid and boot_id names the process
	uint64_t parent_recording_id; // of the process this one was forked from; 0 = none
	uint64_t pid_namespace;      // inode of /proc/self/ns/pid; 0 = unknown
	uint32_t uid;
	uint32_t clock_ticks_per_s;
	uint64_t start_realtime_ns, start_monotonic_ns;
	uint8_t boot_id[16];
	char host_name[64];
	char command[16];     // comm of the process when the recording was opened
	uint8_t core_build_id[20];
	uint32_t core_build_id_bytes;

	// knobs: readers may write `requested`, `requested_sample_bytes`, and `python_requested`, `budget_ppm` and the requested focus below, nothing else
	uint64_t requested, effective; // interval words
	uint64_t requested_sample_bytes, effective_sample_bytes; // 0 = no byte rule
	uint64_t initial;      // interval word in force when recording began
	uint32_t max_frames;
	uint32_t history_unit_cs, history_levels, history_slots, history_level_shift;
	uint32_t size_always_bytes; // allocations of at least this are always sampled
	uint32_t mmap_always_bytes; // mappings of at least this are always sampled
	uint32_t sample_cost_ns; // calibrated cost of one sample; of a core without `own_cost_ns` own cost = samples x this

	// liveness
	uint64_t heartbeat_cs; // last time any sampled code ran
	uint64_t stopped_at_cs; // when state became STOPPED or EXITED
	uint32_t overflow_row;  // ref of the row that takes what found no room
	uint32_t door;          // enum mlf_door

	uint64_t counters[MLF_COUNTER_SLOTS];

	// Python
	uint32_t python_version; // PY_VERSION_HEX of the interpreter in the process; 0 = none seen
	uint32_t python_state;   // enum mlf_python
	uint64_t python_requested, python_effective; // interval words of Python's small-object domains; readers may write the first

	uint32_t native_state; // enum mlf_native

	// How near the process was to what bounds its memory, when cold code last looked
	uint32_t limit_kind; // enum mlf_limit
	uint64_t limit_seen_cs; // 0: never looked, or written by a core that did not
	uint64_t limit_bytes, limit_used_bytes;
	uint64_t rss_bytes; // resident, of the process alone

	// The governor. Of a core without one all of this is 0.
	uint64_t own_cost_ns; // what the samples have cost, by the depth of each
	uint64_t budget_ppm;  // what they may cost, in millionths of the CPU time used; 0: no bound. Readers may write it
	uint64_t governor_changes; // times it has changed the effective knobs
	uint32_t widened_x1024;  // how much wider than requested the intervals are to be; 1024: as requested
	uint32_t governor_state; // enum mlf_governor

	uint32_t label_state; // enum mlf_labels

	// The focus: a part of the allocations that is recorded wholly, see below. Of a core without one all of this is 0.
	uint32_t focus_bytes; // of each of the two texts; not 0: this core has a focus
	uint64_t focus_requested; // its word. Readers may write the text, then the word, in this order
	uint64_t focus_effective; // the word that was adopted last
	uint64_t focus_matched;   // allocations since then that belong to the part, all of them recorded
	uint64_t focus_cost_ns;   // what it has cost beside `own_cost_ns`: the asking, and samples that are taken for it alone
	char focus_requested_text[MLF_FOCUS_BYTES], focus_effective_text[MLF_FOCUS_BYTES]; // ended by NUL
};
_Static_assert(sizeof(struct mlf_header) <= MLF_HEADER_BYTES, "header outgrew its page");

// A focus in a text: "module=NAME", "label=NAME=VALUE", "mod=NAME", or "" for none. Its word: the number of the change in
// bits 32..63, as in an interval word (odd ones are the process's own), and mlf_focus_check() of text and number in 0..31, so
// that no text is taken for another that was being written meanwhile. 0: none was ever asked for.
static inline uint32_t mlf_focus_check(const char *text, uint32_t number)
{
	uint32_t sum = 0x811C9DC5U ^ number; // FNV-1a
	for (; *text; text++)
		sum = (sum ^ (uint8_t)*text) * 0x01000193U;
	return sum * 0x01000193U;
}

enum mlf_labels { // are the labels that Python code sets followed? (Those that C code sets always are.)
	MLF_LABELS_NONE = 0,             // none was ever set
	MLF_LABELS_FOLLOWED = 1,         // yes
	MLF_LABELS_SELF_TEST_FAILED = 2, // no: what we read was not what had been set
};

enum mlf_governor { // what it makes of the requested knobs
	MLF_GOVERNOR_NONE = 0,      // there is no budget, or nothing that could be widened: full, off
	MLF_GOVERNOR_REQUESTED = 1, // in force as requested
	MLF_GOVERNOR_WIDENED = 2,
	MLF_GOVERNOR_WIDEST = 3,    // as wide as can be, and samples still cost more than the budget
};
#define MLF_BUDGET_PPM 10000U // where nothing else is asked for
#define MLF_BUDGET_PPM_MAX 1000000U

enum mlf_limit { // what bounds the memory of the process
	MLF_LIMIT_NONE = 0,    // nothing that is known
	MLF_LIMIT_CGROUP = 1,  // the limit of its cgroup: whoever is in there shares it, and the kernel kills
	MLF_LIMIT_ADDRESS_SPACE = 2, // RLIMIT_AS: mappings fail
	MLF_LIMIT_DATA = 3,    // RLIMIT_DATA: the same
	MLF_LIMIT_MACHINE = 4, // what the machine has: the kernel kills
};

enum mlf_native { // are allocations sampled that do not come by Python's allocators?
	MLF_NATIVE_SAMPLED = 0,
	MLF_NATIVE_OFF = 1, // no: neither they nor mappings
};

enum mlf_python { // are Python frames read?
	MLF_PYTHON_NONE = 0,             // no interpreter in the process
	MLF_PYTHON_FRAMES = 1,           // yes
	MLF_PYTHON_UNKNOWN_VERSION = 2,  // no: this version's frames are not known to us
	MLF_PYTHON_FREE_THREADED = 3,    // no: a build without the GIL
	MLF_PYTHON_SELF_TEST_FAILED = 4, // no: what we read was not what the interpreter says
	MLF_PYTHON_OFF = 5,              // no: switched off
};

#endif
