// mlf_tables.h -- modules, live samples, threads, label sets, pools, mismatches: what stands in a segment by its number or address
//
// A part of memleak_format.h, which has the rules.
#ifndef MLF_TABLES_H
#define MLF_TABLES_H

#include <stdint.h>

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
_Static_assert(sizeof(struct mlf_module) == 128, "layout changed: raise MLF_VERSION and the format page");

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
// a key without bit 63 is being written, given another row or weight, or removed. The sequence changes with each of these.
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
	uint32_t uses;  // of this slot: insertions and, in the lowest bits, changes; the key's sequence is its end
};
_Static_assert(sizeof(struct mlf_live) == 32, "layout changed: raise MLF_VERSION and the format page");

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
_Static_assert(sizeof(struct mlf_thread) == 64, "layout changed: raise MLF_VERSION and the format page");

// A set of labels that allocations were made under. Its text is lines of the form name=value, UTF-8, sorted by name.
#define MLF_LABEL_SETS 255U   // so many with a text; what more there are is counted under
#define MLF_LABEL_OTHER 256U  // this number, which has none
#define MLF_LABEL_BYTES 1000U // of a text at most; longer ones are cut

struct mlf_label_set {
	uint32_t text; // ref of a string, stored last; 0: the number is not used, or there was no room
	uint32_t reserved;
	uint64_t calls; // how many entries of a label with `outcome` ended under this set
};
_Static_assert(sizeof(struct mlf_label_set) == 16, "layout changed: raise MLF_VERSION and the format page");

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
_Static_assert(sizeof(struct mlf_pool) == 96, "layout changed: raise MLF_VERSION and the format page");

// A stretch of memory that a pool hands out in pieces.
struct mlf_pool_region {
	uint32_t pool; // number; 0 = empty, or the region is gone. Stored last
	uint32_t begun_cs;
	uint64_t bytes;
	uint64_t reserved[2];
};
_Static_assert(sizeof(struct mlf_pool_region) == 32, "layout changed: raise MLF_VERSION and the format page");

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
_Static_assert(sizeof(struct mlf_mismatch) == 104, "layout changed: raise MLF_VERSION and the format page");

#endif
