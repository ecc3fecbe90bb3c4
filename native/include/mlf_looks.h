// mlf_looks.h -- how things stood at a time: marks, gauges, the ledger, pins
//
// A part of memleak_format.h, which has the rules.
#ifndef MLF_LOOKS_H
#define MLF_LOOKS_H

#include "mlf_records.h"

#include <stdint.h>

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
_Static_assert(sizeof(struct mlf_mark) == 832, "layout changed: raise MLF_VERSION and the format page");

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
_Static_assert(sizeof(struct mlf_gauge) == 848, "layout changed: raise MLF_VERSION and the format page");

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
_Static_assert(sizeof(struct mlf_ledger) == 184, "layout changed: raise MLF_VERSION and the format page");

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
_Static_assert(sizeof(struct mlf_pins) == 392, "layout changed: raise MLF_VERSION and the format page");

#endif
