// mlf_records.h -- stacks, code, rows, strings: what is reached through refs
//
// A part of memleak_format.h, which has the rules.
#ifndef MLF_RECORDS_H
#define MLF_RECORDS_H

#include <stdint.h>

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
_Static_assert(sizeof(struct mlf_stack) == 24, "layout changed: raise MLF_VERSION and the format page");

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
_Static_assert(sizeof(struct mlf_python_stack) == 24, "layout changed: raise MLF_VERSION and the format page");

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
_Static_assert(sizeof(struct mlf_code) == 40, "layout changed: raise MLF_VERSION and the format page");

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
	// in the alloc_* of that one. And what samples stand for in place of others that were merged with them (`thinned`): in the
	// alloc_* of this one. Totals are without it. freed_samples is without samples that were merged with others.
	uint64_t moved_count_x1024, moved_bytes; // estimated
};
_Static_assert(sizeof(struct mlf_row) == 128, "layout changed: raise MLF_VERSION and the format page");

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

#endif
