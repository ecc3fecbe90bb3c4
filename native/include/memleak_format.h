// memleak_format.h -- the layout of a recording, declared once
//
// A recording is one file. The traced process maps it and writes its tables straight into it; a
// reader opens a live process's file, a dead one's, or a copy, with the same code. This header is
// the only declaration of that layout; docs/reference/recording-format.md explains it, and
// tests/test_format.py holds the Python decoder (src/memleak/layout.py) against it.
//
// Rules that every structure here obeys:
//   * little endian, naturally aligned, no padding that is not named;
//   * all-zero means empty: fresh pages need no initialisation;
//   * no absolute addresses (live keys are address XOR a private secret), no contents of
//     allocations, no arguments or environment;
//   * a record is complete before anything points to it (release store of the pointing word);
//   * `ref` = offset in the file / 16, 0 = none. Refs always point at a `struct mlf_record`.
//
// Times: `_cs` is centiseconds since `start_monotonic_ns` of the header; `_ns` is nanoseconds.
// Estimated counts are in 1/1024 allocations, estimated bytes in bytes.
#ifndef MEMLEAK_FORMAT_H
#define MEMLEAK_FORMAT_H

#include <stdint.h>

#define MLF_MAGIC 0x31304B41454C4D4DULL // "MMLEAK01" in the file, stored last when one is opened
#define MLF_VERSION 1U                  // raised when an older reader would misread the file

#define MLF_HEADER_BYTES 4096U
#define MLF_DIRECTORY_OFFSET 4096U // segment directory: MLF_DIRECTORY_ENTRIES of struct mlf_segment
#define MLF_DIRECTORY_ENTRIES 128U
#define MLF_ROOM_OFFSET 8192U // first byte that room_used can hand out
#define MLF_REF_BYTES 16U

// ---- knobs -------------------------------------------------------------------------------------

// min_sample_interval in bits 0..15, max_sample_interval in 16..31, epoch in 32..63. A writer
// stores the whole word with a later epoch in one 8-byte store, so a pair never tears. The process itself takes
// an odd epoch, everybody else an even one.
// 10000/10000 is off, 1/1 is full, anything else is normal.
#define MLF_INTERVAL_MAX 10000U
#define MLF_INTERVAL_OFF 10000U

// ---- counters ----------------------------------------------------------------------------------

// X(name, makes_inexact, meaning). Order is format: append only.
// makes_inexact = 1: something that a full-mode answer must contain was lost.
#define MLF_COUNTERS(X)                                                                            \
	X(samples, 0, "allocations recorded")                                                      \
	X(forgotten, 0, "recorded allocations seen freed")                                         \
	X(stack_full, 1, "stacks not stored, no room: counted in the overflow row")                \
	X(row_full, 1, "rows not stored, no room: counted in the overflow row")                    \
	X(live_full, 1, "samples dropped, the live set had no room")                               \
	X(live_race, 1, "samples dropped, another thread was stopped in the same bucket")          \
	X(region_full, 1, "mappings dropped, more than the region table holds")                    \
	X(address_range, 1, "samples dropped, address above 2^48")                                 \
	X(history_full, 0, "rows without growth history, no room")                                 \
	X(module_full, 0, "modules met for which, or for whose name, there was no room")              \
	X(thread_full, 0, "threads counted as thread 0, table full")                               \
	X(lost, 1, "samples closed because their address came again: freed out of sight")          \
	X(nested, 1, "sampled calls passed over inside our own code (signal handler)")             \
	X(truncated, 0, "backtraces cut: deeper than max_frames, or the unwinder stopped early")   \
	X(unwind_no_cfi, 0, "unwinder stops: no unwind information at that place")                 \
	X(unwind_bad_cfi, 0, "unwinder stops: unwind information of a kind not followed")          \
	X(unwind_bounds, 0, "unwinder stops: the next frame would leave the known stack")          \
	X(unwind_foreign_stack, 0, "backtraces taken on a stack the thread was not created with")  \
	X(room_grown, 0, "times the backed room was extended")                                     \
	X(room_refused, 0, "times the room could not be extended")                                 \
	X(knobs_rejected, 0, "knob words from outside that were out of range and not adopted")     \
	X(unloads, 0, "dlclose calls and unloads noticed")                                         \
	X(detached, 1, "sampled calls not recorded: the recording was not (yet) open")             \
	X(displaced, 1, "samples closed because another tool had taken our hooks for a while")     \
	X(code_full, 0, "Python frames whose code could not be stored, no room")                   \
	X(python_full, 0, "Python stacks not stored, no room")                                     \
	X(python_truncated, 0, "Python stacks cut: deeper than max_frames")                        \
	X(python_unreadable, 0, "Python stacks not followed: a frame did not look like one")       \
	X(copies_failed, 0, "copies that could not be written to the directory for them")            \
	X(python_subinterpreter, 0, "samples without Python frames: taken in a sub-interpreter, or perhaps so") \
	X(label_other, 0, "samples under the label `other`: there were more than 255 sets of labels")  \
	X(label_full, 0, "times a set of labels was met for whose text there was no room")

enum mlf_counter {
#define MLF_X(name, inexact, meaning) MLF_COUNTER_##name,
	MLF_COUNTERS(MLF_X)
#undef MLF_X
	MLF_COUNTER_COUNT
};
#define MLF_COUNTER_SLOTS 64

// ---- header ------------------------------------------------------------------------------------

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

	// knobs: readers may write `requested`, `requested_sample_bytes`, and `python_requested` and `budget_ppm` below, nothing else
	uint64_t requested, effective; // interval words, see above
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
	uint32_t reserved0;
};

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

// ---- segments ----------------------------------------------------------------------------------

// A table is one or more segments of one kind; later ones are larger. A lookup probes each.
// Unknown kinds are skipped by length.
enum mlf_kind {
	MLF_KIND_NONE = 0,
	MLF_KIND_MODULES = 1,     // struct mlf_module; module id = 1 + index over all segments in order
	MLF_KIND_STACK_INDEX = 2, // uint64_t index words -> struct mlf_stack
	MLF_KIND_ROW_INDEX = 3,   // uint64_t index words -> struct mlf_row
	MLF_KIND_LIVE = 4,        // capacity keys, then capacity struct mlf_live
	MLF_KIND_THREADS = 5,     // struct mlf_thread; thread id = 1 + index, 0 = not known
	MLF_KIND_CODE_INDEX = 6,  // uint64_t index words -> struct mlf_code
	MLF_KIND_PYTHON_STACK_INDEX = 7, // uint64_t index words -> struct mlf_python_stack
	MLF_KIND_MARKS = 8,       // struct mlf_mark, MLF_MARKS of them: the newest
	MLF_KIND_LABEL_SETS = 9,  // struct mlf_label_set; number of a set = 1 + index, 0 = no labels
	MLF_KIND_LEDGER = 10,     // struct mlf_ledger, MLF_LEDGER_SLOTS of each of MLF_LEDGER_LEVELS
	MLF_KIND_PINS = 11,       // struct mlf_pins, one: the newest
};

struct mlf_segment {
	uint32_t kind; // stored last
	uint16_t version, order; // order: 0, 1, 2 … within the kind
	uint64_t offset, bytes;
	uint32_t capacity, record_bytes;
};

// An index word: upper 32 bits = upper 32 bits of the key, lower 32 bits = ref. 0 = empty; words
// are never removed. A key stands within MLF_INDEX_WINDOW words from (key mod capacity), wrapping,
// in any segment of the kind; duplicates (two threads at once) are legal and are added up.
#define MLF_INDEX_WINDOW 16U

// ---- arena records: reached only through refs ----------------------------------------------------

enum mlf_record_kind {
	MLF_RECORD_STACK = 1,
	MLF_RECORD_ROW = 2,
	MLF_RECORD_HISTORY = 3,
	MLF_RECORD_STRING = 4,
	MLF_RECORD_CODE = 5,
	MLF_RECORD_PYTHON_STACK = 6,
};

struct mlf_record {
	uint32_t bytes; // of the whole record, with this header, before rounding to 16
	uint16_t kind, version;
};

// A frame is module id << 48 | exact << 47 | virtual address in the module (47 bits): what
// addr2line takes. It is a return address (look up vaddr - 1) unless MLF_FRAME_EXACT is set
// (a frame interrupted by a signal). Module id 0: not in any known module, address withheld (0).
#define MLF_FRAME_MODULE_SHIFT 48
#define MLF_FRAME_EXACT (1ULL << 47)
#define MLF_FRAME_VADDR_MASK ((1ULL << 47) - 1)

#define MLF_STACK_TRUNCATED 1U

struct mlf_stack {
	struct mlf_record record;
	uint64_t key;
	uint16_t frames, flags;
	uint32_t reserved;
	uint64_t frame[]; // innermost first: the caller of the allocation function
};

// A Python frame is ref of its code << 32 | entry << 31 | offset of the instruction that it executes, in bytes
// (31 bits). Ref 0: its code could not be stored. Entry: the interpreter was entered anew for this frame, from C; the
// frames it calls without C in between follow inside the same run of the interpreter (CPython 3.11 and later).
// The word MLF_PYTHON_NO_FRAME is a run that has no frame: it is about to begin or to end (3.12 and later).
#define MLF_PYTHON_FRAME_CODE_SHIFT 32
#define MLF_PYTHON_FRAME_ENTRY (1ULL << 31)
#define MLF_PYTHON_FRAME_OFFSET_MASK ((1ULL << 31) - 1)
#define MLF_PYTHON_FRAME_NOT_BEGUN MLF_PYTHON_FRAME_OFFSET_MASK // in place of an offset: its line is its code's first
#define MLF_PYTHON_NO_FRAME (MLF_PYTHON_FRAME_ENTRY | (MLF_PYTHON_FRAME_OFFSET_MASK - 1)) // ref 0: not code without a record

struct mlf_python_stack {
	struct mlf_record record;
	uint64_t key;
	uint16_t frames, flags; // MLF_STACK_TRUNCATED
	uint32_t reserved;
	uint64_t frame[]; // innermost first
};

enum mlf_line_table {
	MLF_LINE_TABLE_NONE = 0,
	MLF_LINE_TABLE_LNOTAB = 1,    // CPython 3.9: co_lnotab
	MLF_LINE_TABLE_LINES = 2,     // 3.10: co_linetable of PEP 626
	MLF_LINE_TABLE_LOCATIONS = 3, // 3.11 and later: co_linetable of PEP 657
};

#define MLF_CODE_CUT 1U // the line table or a name is longer than what is kept: lines may be missing

// A Python code object, by content: one that is made again is the same record.
struct mlf_code {
	struct mlf_record record;
	uint64_t key; // of file, name, first line and line table
	uint32_t file, name; // refs of strings, UTF-8; name is the qualified name (CPython 3.9, 3.10: the plain one)
	int32_t first_line;
	uint16_t line_table; // enum mlf_line_table
	uint16_t flags;      // MLF_CODE_*
	uint32_t line_table_bytes;
	uint32_t reserved;
	uint8_t lines[];
};

// What the program asked through (mod_name). Order is format.
enum mlf_domain {
	MLF_DOMAIN_NONE = 0,
	MLF_DOMAIN_MALLOC = 1,       // glibc_malloc
	MLF_DOMAIN_OPERATOR_NEW = 2, // operator_new
	MLF_DOMAIN_PYMALLOC_OBJ = 3,
	MLF_DOMAIN_PYMALLOC_MEM = 4,
	MLF_DOMAIN_PYMEM_RAW = 5,
	MLF_DOMAIN_MMAP = 6,
};

#define MLF_ROW_OVERFLOW 1U // the row of everything that found no room; it has no stack
#define MLF_ROW_PYTHON_LOST 2U // there was no room for its Python stack at first; lost while python_stack is 0

// Counters only grow. Read the `freed_*` before the `alloc_*` and clamp: the difference is then
// never negative. Live figures of an answer come from the live set, not from these.
struct mlf_row {
	struct mlf_record record;
	uint64_t key; // of (native stack, Python stack, domain, label set)
	uint32_t native_stack, python_stack; // refs
	uint32_t label_set; // number of a set of labels; 0 = none
	uint8_t domain, flags;
	uint16_t reserved0;
	uint32_t first_cs, last_cs;
	uint32_t history;        // ref, 0 until the row is seen in a second history unit
	uint32_t history_tick;   // 1 + cs / history_unit_cs of the last change
	uint64_t alloc_samples, freed_samples;
	uint64_t alloc_count_x1024, freed_count_x1024; // estimated
	uint64_t alloc_bytes, freed_bytes;             // estimated
	uint64_t peak_bytes;     // highest estimated live bytes
	uint32_t peak_cs, lost_samples;
	uint64_t reserved1[2];
};

// History: estimated live bytes of one row over time. Tick = 1 + cs / history_unit_cs. Level l has one word for each
// 2^(l * history_level_shift) ticks; word (tick >> l*shift) mod slots. Word = (tag << 40) | value,
// tag = 1 + (tick >> l*shift) mod 2^24 - 1, value in bytes, saturated at 2^40 - 1: the value when that
// period ended (level 0 and the current period: the latest). A missing word: unchanged since the
// one before.
#define MLF_HISTORY_LEVELS 6U
#define MLF_HISTORY_SLOTS 16U
#define MLF_HISTORY_LEVEL_SHIFT 2U
#define MLF_HISTORY_UNIT_CS 400U
#define MLF_HISTORY_VALUE_BITS 40
#define MLF_HISTORY_TAG_MASK 0xFFFFFFU

struct mlf_history {
	struct mlf_record record;
	uint64_t reserved;
	uint64_t slot[MLF_HISTORY_LEVELS * MLF_HISTORY_SLOTS];
};

struct mlf_string {
	struct mlf_record record; // bytes = 8 + length, no terminator
	char text[];
};

// ---- table records -------------------------------------------------------------------------------

#define MLF_MODULE_MAIN 1U // the program itself
#define MLF_MODULE_CORE 2U // libmemleak.so
#define MLF_MODULE_VDSO 4U
#define MLF_MODULE_GREENLET 8U // the greenlet package: it switches stacks

struct mlf_module {
	uint32_t state; // 0 empty, 1 being written, 2 valid
	uint32_t flags;
	uint32_t path;  // ref of a string
	uint32_t build_id_bytes; // 0 = the module has none
	uint8_t build_id[20];
	uint32_t loaded_cs;
	uint64_t vaddr_low, vaddr_high; // of its loaded segments, as in its program headers
	uint64_t unload_generation;     // dlclose count when last seen loaded
	// Do its allocations come by? Brought up to date by cold code.
	uint32_t coverage;        // enum mlf_coverage
	uint32_t slots_here;      // places where it keeps the address of an allocation function that lead to our hooks
	uint32_t slots_elsewhere; // that lead somewhere else
	uint32_t holder;          // id of a module they lead to; 0 = none
	uint64_t reserved[6];
};

// How far the allocations of a loaded object are seen. What is not HOOKED or NONE is out of reach.
enum mlf_coverage {
	MLF_COVERAGE_UNKNOWN = 0,         // not looked at
	MLF_COVERAGE_HOOKED = 1,          // every slot leads to our hooks
	MLF_COVERAGE_NONE = 2,            // it calls no allocation function through a slot
	MLF_COVERAGE_ALLOCATOR = 3,       // it is an allocator of its own, and not the one the process uses
	MLF_COVERAGE_OTHER_ALLOCATOR = 4, // bound to another allocator (RTLD_DEEPBIND): `holder`
	MLF_COVERAGE_OTHER_TOOL = 5,      // another tracer's hooks are in its slots: `holder`
	MLF_COVERAGE_PROTECTED = 6,       // the kernel refused to change the protection of its slots
	MLF_COVERAGE_UNBOUND = 7,         // slots the loader has not bound yet, and several allocators it might choose
	MLF_COVERAGE_GONE = 8,            // unloaded
};

// Live set: buckets of 8 entries. An entry stands in one of the two buckets of its address.
// key = live(bit 63) | sequence (62..52) | layer (51..48) | address XOR secret (47..0); 0 = free;
// a key without bit 63 is being written or removed. The sequence changes with each use of a slot.
// A reader takes key, entry, key again, and drops the entry if the keys differ or `check` is wrong.
#define MLF_LIVE_BUCKET 8U
#define MLF_LIVE_KEY_LIVE (1ULL << 63)
#define MLF_LIVE_KEY_SEQUENCE_SHIFT 52
#define MLF_LIVE_KEY_LAYER_SHIFT 48
#define MLF_LIVE_KEY_ADDRESS_MASK ((1ULL << 48) - 1)

enum mlf_layer { // which hook owns the sample
	MLF_LAYER_MALLOC = 1,
	MLF_LAYER_OPERATOR_NEW = 2, // an operator new that does not end in a hooked malloc
	MLF_LAYER_PYMEM = 3,
	MLF_LAYER_MMAP = 6,
};

struct mlf_live {
	uint64_t size_bytes; // as requested
	uint32_t row;        // ref
	uint32_t weight_x1024; // 1/probability of being sampled, in 1/1024
	uint32_t born_cs;
	uint32_t thread;
	uint32_t check; // mlf_live_check()
	uint32_t uses;  // of this slot: where the key's sequence comes from
};

#define MLF_CHECK_1 0x9E3779B97F4A7C15ULL
#define MLF_CHECK_2 0xC2B2AE3D27D4EB4FULL
#define MLF_CHECK_3 0x165667B19E3779F9ULL
static inline uint32_t mlf_live_check(uint64_t key, uint64_t size_bytes, uint32_t row, uint32_t weight_x1024,
				      uint32_t born_cs, uint32_t thread)
{
	uint64_t sum = key + size_bytes * MLF_CHECK_1 + ((uint64_t)row << 32 | weight_x1024) * MLF_CHECK_2 +
		       ((uint64_t)born_cs << 32 | thread) * MLF_CHECK_3;
	return (uint32_t)(sum >> 32) ^ (uint32_t)sum;
}

struct mlf_thread {
	uint32_t state; // 0 empty, 1 valid
	uint32_t tid;
	uint32_t first_cs, last_cs;
	uint64_t samples;
	char name[16]; // filled by cold code; "" = not known
	uint32_t last_row; // ref of the row of its last sample, of which `last_cs` tells when; 0 = written by a core that did not note it
	uint32_t reserved0;
	uint64_t reserved[2];
};

// A set of labels that allocations were made under. Its text is lines of the form name=value, UTF-8, sorted by name.
#define MLF_LABEL_SETS 255U   // so many with a text; what more there are is counted under
#define MLF_LABEL_OTHER 256U  // this number, which has none
#define MLF_LABEL_BYTES 1000U // of a text at most; longer ones are cut

struct mlf_label_set {
	uint32_t text; // ref of a string, stored last; 0: the number is not used, or there was no room
	uint32_t reserved[3];
};

// A mark: what the process held when it came near its limit. Written in this order: `sequence` 0, `sequence_again` 0,
// the rest, `sequence_again`, `sequence`. A reader takes a mark whose two numbers are equal and not 0.
#define MLF_MARKS 5U
#define MLF_MARK_ROWS 64U

struct mlf_mark {
	uint64_t sequence; // 1, 2, … ; mark n stands at (n - 1) mod MLF_MARKS
	uint32_t cs;
	uint32_t level_percent; // of the limit, passed on the way up: 80, 90 or 95
	uint32_t limit_kind;    // enum mlf_limit
	uint32_t rows;          // of the next two lists; the largest first
	uint64_t limit_bytes, used_bytes, rss_bytes; // as in the header
	uint64_t live_bytes;    // estimated, of all rows
	uint32_t row[MLF_MARK_ROWS]; // refs
	uint64_t row_bytes[MLF_MARK_ROWS]; // estimated live bytes
	uint64_t sequence_again;
};

// The ledger: what was resident and what the allocators held, about every ten seconds that cold code runs. Tick = cs /
// MLF_LEDGER_UNIT_CS. Level l keeps one look, the last, of each period of 4^l ticks, at place
// l * MLF_LEDGER_SLOTS + (tick >> 2 l) mod MLF_LEDGER_SLOTS. Written and read as a mark is.
#define MLF_LEDGER_LEVELS 6U
#define MLF_LEDGER_SLOTS 16U
#define MLF_LEDGER_LEVEL_SHIFT 2U
#define MLF_LEDGER_UNIT_CS 1000U

enum mlf_heap { // what the C library's allocator says of itself
	MLF_HEAP_NOT_ASKED = 0, // at no moment at which that could be
	MLF_HEAP_TOLD = 1,
	MLF_HEAP_CANNOT_TELL = 2, // glibc before 2.33
	MLF_HEAP_OTHER = 3,     // malloc is another library's
	MLF_HEAP_TOO_LONG = 4,  // it took long the last time, with its locks held: figures are of `heap_cs`
};

struct mlf_ledger {
	uint64_t sequence; // 1, 2, … of each look; the same at all levels
	uint32_t cs, threads;
	uint64_t anonymous_bytes, file_bytes, shared_bytes; // resident, as /proc/self/status has it: RssAnon, RssFile, RssShmem
	uint64_t swapped_bytes, locked_bytes, page_table_bytes; // VmSwap, VmLck, VmPTE
	uint64_t native_bytes; // estimated live, with what the allocator adds to each block: in the C library's heaps
	uint64_t large_bytes;  // the same, in mappings that it made for one block
	uint64_t python_bytes; // the same, small blocks of Python's allocator
	uint64_t mapped_bytes; // live mappings of the program's own
	uint64_t python_arena_bytes; // of that allocator's arenas, since we see them come and go
	uint64_t own_bytes; // of the tracer, at least: recording and free check
	uint32_t heap_state; // enum mlf_heap
	uint32_t heap_cs;    // when it was asked; 0 never
	uint32_t heap_us;    // what that took
	uint32_t reserved0;
	uint64_t heap_bytes;      // taken from the kernel, all heaps: used + free
	uint64_t heap_used_bytes; // with what threads keep for themselves
	uint64_t heap_free_bytes, heap_fast_bytes, heap_top_bytes; // free; of these: small, not merged; at the end of the first heap
	uint64_t heap_mapped_bytes; // mappings that it made for one block
	uint64_t sequence_again;
};

// Who pins the heaps: rows whose live blocks lie where little else is live. Written and read as a mark is.
#define MLF_PINS_ROWS 16U
#define MLF_PINS_REGION_BYTES (4U << 20)

struct mlf_pins {
	uint64_t sequence;
	uint32_t cs;
	uint32_t rows; // of the lists; the one that pins most first
	uint32_t regions, sparse_regions; // aligned, of MLF_PINS_REGION_BYTES, with live samples in heaps; those less than a quarter live
	uint64_t region_bytes;
	uint64_t live_bytes, sparse_bytes; // estimated live in all of them, and in the sparse ones
	uint64_t occupied_bytes; // of pages that hold something live, estimated as if blocks lay at random in their region
	uint64_t sparse_occupied_bytes;
	uint32_t row[MLF_PINS_ROWS]; // refs
	uint64_t row_live_bytes[MLF_PINS_ROWS];   // estimated live in sparse regions
	uint64_t row_pinned_bytes[MLF_PINS_ROWS]; // of the pages they hold there, shared ones by parts
	uint64_t sequence_again;
};

_Static_assert(sizeof(struct mlf_header) <= MLF_HEADER_BYTES, "header outgrew its page");
_Static_assert(sizeof(struct mlf_segment) == 32 && MLF_DIRECTORY_ENTRIES * 32 <= 4096, "directory outgrew its page");
_Static_assert(sizeof(struct mlf_row) == 128, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_module) == 128, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_live) == 32, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_thread) == 64, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_label_set) == 16, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_mark) == 832, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_ledger) == 184, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_pins) == 392, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_code) == 40, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_python_stack) == 24, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_stack) == 24, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(MLF_COUNTER_COUNT <= MLF_COUNTER_SLOTS, "too many counters");

#endif
