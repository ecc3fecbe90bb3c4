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
#define MLF_FOCUS_BYTES 256U // of a focus in words, its NUL included

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
	X(knobs_rejected, 0, "knob words from outside that were out of range and not adopted, a focus too")     \
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
	X(label_full, 0, "times a set of labels was met for whose text there was no room")          \
	X(outcome_missed, 0, "times that samples may have stayed under outcome=ok though their entry failed") \
	X(pool_other, 0, "times a pool was asked for by a name that came after 63 others: counted as `other`") \
	X(pool_full, 0, "times there was no room for what the recording says of a pool or a region") \
	X(pool_unnoted, 0, "blocks of pools whose owner could not be noted: their frees are not compared any more") \
	X(mismatches, 0, "sampled blocks whose free did not fit how they were allocated, suspects included") \
	X(mismatch_full, 0, "of these, those that found no room") \
	X(gauge_full, 0, "times a gauge was not recorded: no room, or a name beyond the 64th")

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

	// knobs: readers may write `requested`, `requested_sample_bytes`, and `python_requested`, `budget_ppm` and the requested focus below, nothing else
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

	// The focus: a part of the allocations that is recorded wholly, see below. Of a core without one all of this is 0.
	uint32_t focus_bytes; // of each of the two texts; not 0: this core has a focus
	uint64_t focus_requested; // its word. Readers may write the text, then the word, in this order
	uint64_t focus_effective; // the word that was adopted last
	uint64_t focus_matched;   // allocations since then that belong to the part, all of them recorded
	uint64_t focus_cost_ns;   // what it has cost beside `own_cost_ns`: the asking, and samples that are taken for it alone
	char focus_requested_text[MLF_FOCUS_BYTES], focus_effective_text[MLF_FOCUS_BYTES]; // ended by NUL
};

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
	MLF_KIND_POOLS = 10,      // struct mlf_pool; number of a pool = 1 + index
	MLF_KIND_POOL_REGIONS = 11, // struct mlf_pool_region; number of a region = 1 + index over all segments in order
	MLF_KIND_MISMATCHES = 12, // struct mlf_mismatch
	MLF_KIND_GAUGES = 13,     // struct mlf_gauge, MLF_GAUGES_EACH of them; order 0: those that readers made, the rest: the program's
	MLF_KIND_LEDGER = 14,     // struct mlf_ledger, MLF_LEDGER_SLOTS of each of MLF_LEDGER_LEVELS
	MLF_KIND_PINS = 15,       // struct mlf_pins, one: the newest
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
#define MLF_POOL_DOMAIN 128U // plus the number of a pool: what a program says of an allocator of its own. In no total

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
	// Of the above, what went on to another row with the outcome of its entry: in the alloc_* and freed_* of this one, and
	// in the alloc_* of that one. Totals are without it.
	uint64_t moved_count_x1024, moved_bytes; // estimated
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
// a key without bit 63 is being written, moved to another row or removed. The sequence changes with each of these.
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
	MLF_LAYER_POOL = 4, // a block within memory that somebody else owns: in no total
	MLF_LAYER_MMAP = 6,
	// From here on entries are no samples, but what the core must know of an address of a pool; readers skip them.
	MLF_LAYER_NO_SAMPLE = 8,
	MLF_LAYER_POOL_FREED = 9, // a sampled block was freed here, and the address has not been given out again
	MLF_LAYER_POOL_GIVEN = 10, // an unsampled block was given out here, where a sample of another owner begins too
	MLF_LAYER_POOL_REGION = 11, // a region begins here
};

struct mlf_live {
	uint64_t size_bytes; // as requested
	uint32_t row;        // ref
	uint32_t weight_x1024; // 1/probability of being sampled, in 1/1024
	uint32_t born_cs;
	uint32_t thread; // number in the bits of MLF_LIVE_THREAD_MASK; of MLF_LAYER_POOL… above them its pool and its region
	uint32_t check; // mlf_live_check()
	uint32_t uses;  // of this slot: where the key's sequence comes from
};

#define MLF_LIVE_THREAD_MASK 0xFFFU
#define MLF_LIVE_POOL_SHIFT 12   // 7 bits
#define MLF_LIVE_POOL_MASK 0x7FU
#define MLF_LIVE_REGION_SHIFT 19 // 13 bits; 0 = in none

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
	uint32_t reserved;
	uint64_t calls; // how many entries of a label with `outcome` ended under this set
};

// A pool: an allocator of the program's own, of which it tells us (memleak.h).
#define MLF_POOL_OTHER 64U // the number of all pools that came after 63 others
#define MLF_POOL_NAME_BYTES 64U

struct mlf_pool {
	uint32_t state; // 0 empty, 1 valid; stored last
	uint32_t regions;       // that it has now
	uint64_t capacity_bytes; // of these: exact
	uint64_t regions_ended;
	uint64_t reserved;
	char name[MLF_POOL_NAME_BYTES]; // UTF-8, ends with a NUL unless it fills all
};

// A stretch of memory that a pool hands out in pieces.
struct mlf_pool_region {
	uint32_t pool; // number; 0 = empty, or the region is gone. Stored last
	uint32_t begun_cs;
	uint64_t bytes;
	uint64_t reserved[2];
};

enum mlf_mismatch_kind { // allocated one way, freed another
	MLF_MISMATCH_NONE = 0,
	MLF_MISMATCH_POOL_FREE = 1,   // of a pool, passed to free()
	MLF_MISMATCH_POOL_POOL = 2,   // of a pool, freed to another
	MLF_MISMATCH_MALLOC_POOL = 3, // of malloc, freed to a pool
	MLF_MISMATCH_POOL_SIZE = 4,   // freed to its pool with another size than it has
	MLF_MISMATCH_POOL_TWICE = 5,  // freed to its pool again, and not given out in between
	MLF_MISMATCH_MALLOC_DELETE = 6,
	MLF_MISMATCH_NEW_FREE = 7,
	MLF_MISMATCH_NEW_SIZE = 8,    // delete with another size than new was asked for
};
#define MLF_MISMATCHES 64U

// All mismatches of one kind, one allocating row and one freeing stack. 6 and 7 are suspects until a reader with the program's
// symbols has looked at both stacks: see docs/reference/pools.md.
struct mlf_mismatch {
	uint32_t state; // 0 empty, 1 being written, 2 valid
	uint32_t kind;  // enum mlf_mismatch_kind
	uint64_t key;   // of kind, row and freeing stack
	uint32_t row;   // ref of the row that the block was allocated in
	uint32_t native_stack, python_stack; // refs: who freed it
	uint32_t freed_pool; // number of the pool that it was freed to; 0 = to none
	uint32_t thread;     // that freed the latest
	uint32_t first_cs, last_cs;
	uint32_t reserved0;
	uint64_t size_bytes;  // of the latest: as allocated
	uint64_t freed_bytes; // of the latest: as said when it was freed; of the kinds without a size 0
	uint64_t count;       // sampled ones
	uint64_t count_x1024; // what these stand for
	uint64_t target; // MLF_MISMATCH_NEW_FREE: frame word of the function that was called (a stub for free); 0 = called through its slot
	uint64_t reserved[2];
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

// A gauge: a count of the program's business, with its history. Readers may write one, too: all words but state and name of any
// that is named; and in the segment of order 0, one reader at a time (flock of the file), a new one: everything else first, then `state`.
// A record whose state is not NAMED is not there. Of two with one name the program's own counts.
#define MLF_GAUGES 64U      // of the program's
#define MLF_GAUGES_EACH 16U // in a segment
#define MLF_GAUGE_NAME_BYTES 48U // a letter or _, then letters, digits and _ . : / -

enum mlf_gauge_state {
	MLF_GAUGE_EMPTY = 0,
	MLF_GAUGE_CLAIMED = 1, // being named
	MLF_GAUGE_NAMED = 2,
};

// `slot` is a history as that of a row: the same ticks, levels and tags, the value when the period ended. A value in 40 bits is
// sign << 39 | exponent << 33 | mantissa, and means mantissa << exponent, negative if sign is 1.
#define MLF_GAUGE_MANTISSA_BITS 33
#define MLF_GAUGE_SIGN_BIT 39

struct mlf_gauge {
	uint32_t state;      // enum mlf_gauge_state, stored last
	uint32_t name_bytes;
	char name[MLF_GAUGE_NAME_BYTES]; // no terminator
	int64_t value;       // now
	uint32_t first_cs;   // when it was first set; 0: never, there is no value
	uint32_t set_cs;     // when it was last set, be it to the same value
	uint32_t changed_cs; // when it last became another
	uint32_t tick;       // 1 + cs / history_unit_cs of the last change; 0: none
	uint64_t slot[MLF_HISTORY_LEVELS * MLF_HISTORY_SLOTS];
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
_Static_assert(sizeof(struct mlf_pool) == 96, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_pool_region) == 32, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_mismatch) == 104, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_gauge) == 848, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_mark) == 832, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_ledger) == 184, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_pins) == 392, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_code) == 40, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_python_stack) == 24, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(sizeof(struct mlf_stack) == 24, "layout changed: raise MLF_VERSION and the format page");
_Static_assert(MLF_COUNTER_COUNT <= MLF_COUNTER_SLOTS, "too many counters");

#endif
