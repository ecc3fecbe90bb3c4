// recording_room.c -- room in the recording, and its tables' segments
//
// Context:   sampled; recording_room_begin() is cold.
// Invariant: every byte below header->room_backed has memory behind it, so that a touch is a minor fault at worst;
//            nothing at or above it is touched here.
// Why:       the room is only ever taken from its front, so a bump pointer is the whole allocator
//            and lock-free; backing it is a system call and therefore cold.
// Proof:     tests/native/test_recording.c, test_lockfree.c; tests/models/index.pml
#include "recording_room.h"

#include "arch_x86_64.h"

#define BUILDER_LOOKS 1000 // some 50 microseconds: behind a fork the builder may have to copy a page first (100 lost a sample in 1 of 30 runs)

struct recording recording;

struct recording_table recording_tables[MLF_KIND_PINS + 1][RECORDING_SEGMENTS];
static uint8_t table_claims[MLF_KIND_PINS + 1][RECORDING_SEGMENTS]; // 1: somebody adds or added it

void *recording_take(uint32_t bytes, uint32_t alignment)
{
	struct mlf_header *header = recording.header;
	uint64_t used = load_relaxed(&header->room_used);
	for (int tries = 0; tries < 64; tries++) {
		uint64_t from = round_up(used, alignment), to = from + round_up(bytes, MLF_REF_BYTES);
		// Acquire: pairs with the release in grow() of recording.c, whose backing must come first.
		if (to > load_acquire(&header->room_backed))
			return NULL;
		if (cas_relaxed(&header->room_used, &used, to)) // relaxed: what lies there is published by its user
			return recording.base + from;
	}
	return NULL; // 64 lost races in a row: give up this sample rather than spin
}

// By another thread, which needs some hundred instructions for it. If it is stopped half-way we drop what does not fit.
// (Without a look or two more, threads in step lost a sample in one of two hundred runs.)
static bool built_meanwhile(enum mlf_kind kind, unsigned order)
{
	for (int looks = 0; looks < BUILDER_LOOKS; looks++) {
		if (load_acquire(&recording_tables[kind][order].base)) // pairs with the release below
			return true;
		arch_relax();
	}
	return false;
}

bool recording_add_segment(enum mlf_kind kind, unsigned order, uint32_t capacity, uint32_t bytes_each)
{
	if (order >= RECORDING_SEGMENTS)
		return false;
	struct mlf_header *header = recording.header;
	uint64_t bytes = (uint64_t)capacity * bytes_each;
	// Before the claim, and looked at first: in a set that is full every sample asks, and would wait for others that ask in vain.
	bool is_room = load_relaxed(&header->room_used) + bytes <= load_acquire(&header->room_backed); // pairs with grow()
	bool is_claimed = load_acquire(&table_claims[kind][order]); // pairs with the exchange
	if (!is_claimed && !is_room)
		return false;
	// One thread builds a segment.
	if (is_claimed || exchange_acq_rel(&table_claims[kind][order], 1))
		return built_meanwhile(kind, order);

	unsigned char *base = bytes <= UINT32_MAX ? recording_take((uint32_t)bytes, 64) : NULL;
	uint32_t slot = base ? add_relaxed(&header->segment_count, 1) : 0;
	if (!base || slot >= MLF_DIRECTORY_ENTRIES) {
		store_release(&table_claims[kind][order], 0); // the room may have grown next time
		return false;
	}
	struct mlf_segment *segment = (struct mlf_segment *)(void *)(recording.base + MLF_DIRECTORY_OFFSET) + slot;
	segment->version = 1;
	segment->order = (uint16_t)order;
	segment->offset = (uint64_t)(base - recording.base);
	segment->bytes = bytes;
	segment->capacity = capacity;
	segment->record_bytes = bytes_each;
	store_release(&segment->kind, kind); // pairs with readers of the file: kind last
	recording_tables[kind][order].capacity = capacity;
	store_release(&recording_tables[kind][order].base, base);
	return true;
}

void recording_room_begin(struct mlf_header *header)
{
	for (unsigned kind = 0; kind < ARRAY_LEN(recording_tables); kind++)
		for (unsigned order = 0; order < RECORDING_SEGMENTS; order++) {
			recording_tables[kind][order] = (struct recording_table){0};
			table_claims[kind][order] = 0;
		}
	store_relaxed(&recording.header, header); // relaxed, as the words in it: see fill_identity()
	recording.base = (unsigned char *)header;
}
