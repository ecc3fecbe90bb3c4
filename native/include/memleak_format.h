// memleak_format.h -- the layout of a recording, declared once
//
// A recording is one file. The traced process maps it and writes its tables straight into it; a
// reader opens a live process's file, a dead one's, or a copy, with the same code. This header and its
// parts are the only declaration of that layout; docs/reference/recording-format.md explains it, and
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

#include "mlf_counters.h"
#include "mlf_header.h"
#include "mlf_looks.h"
#include "mlf_records.h"
#include "mlf_tables.h"

#include <stdint.h>

#define MLF_MAGIC 0x31304B41454C4D4DULL // "MMLEAK01" in the file, stored last when one is opened
#define MLF_VERSION 1U                  // raised when an older reader would misread the file

// The file begins with struct mlf_header, in MLF_HEADER_BYTES.
#define MLF_DIRECTORY_OFFSET 4096U // segment directory: MLF_DIRECTORY_ENTRIES of struct mlf_segment
#define MLF_DIRECTORY_ENTRIES 128U
#define MLF_ROOM_OFFSET 8192U // first byte that room_used can hand out
#define MLF_REF_BYTES 16U

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
_Static_assert(sizeof(struct mlf_segment) == 32 && MLF_DIRECTORY_ENTRIES * 32 <= 4096, "directory outgrew its page");
_Static_assert(MLF_DIRECTORY_OFFSET == MLF_HEADER_BYTES && MLF_ROOM_OFFSET == MLF_DIRECTORY_OFFSET + 4096, "one page each");

// An index word: upper 32 bits = upper 32 bits of the key, lower 32 bits = ref. 0 = empty; words
// are never removed. A key stands within MLF_INDEX_WINDOW words from (key mod capacity), wrapping,
// in any segment of the kind; duplicates (two threads at once) are legal and are added up.
#define MLF_INDEX_WINDOW 16U

#endif
