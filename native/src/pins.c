// pins.c -- how the live samples lie in memory: sums by kind, and who holds pages that hold little else
//
// Context:   cold: the chores thread, what a program without threads has instead.
// Invariant: reads the live set while others change it; allocates nothing. The record reads whole or not at all: as a mark does.
// Why:       an allocator gives back pages, not blocks: one live block in a page holds all of it. Which stacks those
//            blocks are of only the process can tell, for the file has no addresses.
// Model:     inside a region blocks of less than a page lie at random: of P pages with n of them in P (1 - e^(-n/P)) hold one
//            at least. Finer clusters than a region are not seen. A region is large enough that 64 blocks,
//            one for each 64 KiB, give half a sample at the intervals that are the default.
// Cost:      2 x 32,768 places at most, a part of the live set if it is larger: about a millisecond (measured), every ten seconds.
// Proof:     tests/native/test_ledger.c; tests/scenarios/test_ledger_workloads.py
#include "pins.h"

#include "atomics.h"
#include "bitmap.h"
#include "liveset.h"
#include "recording.h"

#define PLACES_MOST 32768U
#define REGIONS 1024U // 4 GiB of heaps; what is beyond is left out
#define REGION_PAGES (MLF_PINS_REGION_BYTES / PAGE_BYTES)
#define SPARSE_BYTES (MLF_PINS_REGION_BYTES / 4)
#define MMAP_BYTES (128U << 10) // glibc's least
#define CHUNK_HEADER 8U
#define CHUNK_LEAST 32U
#define FREE_HEADER 48U
#define PYMALLOC_MOST 512U
#define ROWS 256U

static struct region {
	uint32_t tag; // address / region + 1; 0: free
	uint32_t pages; // that hold something live
	uint64_t small_x1024; // small blocks
	uint64_t small_bytes, large_bytes;
} regions[REGIONS];

static struct pinning {
	uint32_t ref;
	uint64_t live_bytes, pinned_bytes;
} pinning[ROWS];

static uint64_t sequence;
static uint32_t looks;

void pins_begin(void) { sequence = 0; }

// ---- one sample ----------------------------------------------------------------------------------

static uint64_t chunk_bytes(uint64_t size_bytes)
{
	uint64_t chunk = round_up(size_bytes + CHUNK_HEADER, 16);
	return chunk < CHUNK_LEAST ? CHUNK_LEAST : chunk;
}

// Of the C library's: then it begins behind the header of a chunk that begins a page. (Of those in heaps one in 256 does.)
static bool is_mapping_of_its_own(const void *address, uint64_t size_bytes)
{
	return size_bytes >= MMAP_BYTES && (uintptr_t)address % PAGE_BYTES == 16;
}

static bool is_in_heap(enum mlf_layer layer, const void *address, uint64_t size_bytes)
{
	return layer == MLF_LAYER_MALLOC && !is_mapping_of_its_own(address, size_bytes);
}

static struct region *region_of(const void *address, bool make)
{
	uint32_t tag = (uint32_t)((uintptr_t)address / MLF_PINS_REGION_BYTES) + 1;
	uint32_t at = (uint32_t)(tag * MLF_CHECK_1 >> 32);
	for (unsigned tries = 0; tries < 16; tries++, at++) {
		struct region *region = &regions[at % REGIONS];
		if (!region->tag && make)
			region->tag = tag;
		if (region->tag == tag)
			return region;
		if (!region->tag)
			return NULL;
	}
	return NULL;
}

static uint64_t times(uint64_t bytes, uint64_t weight_x1024) { return bytes * weight_x1024 >> 10; } // < 2^48 x 2^14 x strides

// ---- what a region's pages hold -----------------------------------------------------------------

// 1 - e^-x, in 1/1024, within 0.5 %.
static uint64_t some_x1024(uint64_t x)
{
	if (x >= 8 * 1024)
		return 1024;
	uint64_t x2 = x * x >> 10, x3 = x2 * x >> 10, x4 = x3 * x >> 10, x5 = x4 * x >> 10, x6 = x5 * x >> 10;
	uint64_t power = 1024 + x + x2 / 2 + x3 / 6 + x4 / 24 + x5 / 120 + x6 / 720;
	return 1024 - 1024 * 1024 / power;
}

static uint64_t live_of(const struct region *region) { return region->small_bytes + region->large_bytes; }

static void count_pages(struct region *region)
{
	uint64_t large = region->large_bytes / PAGE_BYTES, rest;
	large = large < REGION_PAGES ? large : REGION_PAGES;
	rest = REGION_PAGES - large;
	// Some lie on two pages, with the header of the free block behind them, which stays.
	uint64_t touched_x1024 = region->small_x1024 + (((region->small_bytes << 10) + region->small_x1024 * FREE_HEADER) / PAGE_BYTES);
	region->pages = (uint32_t)(large + (rest ? rest * some_x1024(touched_x1024 / rest) >> 10 : 0));
}

// ---- rows ----------------------------------------------------------------------------------------

static void take_row(uint32_t ref, uint64_t live, uint64_t pinned)
{
	uint32_t at = (uint32_t)(ref * MLF_CHECK_2 >> 32);
	for (unsigned tries = 0; tries < 16; tries++, at++) {
		struct pinning *row = &pinning[at % ROWS];
		if (row->ref && row->ref != ref)
			continue;
		row->ref = ref;
		row->live_bytes += live;
		row->pinned_bytes += pinned;
		return;
	}
}

static void write_rows(struct mlf_pins *to)
{
	to->rows = 0;
	while (to->rows < MLF_PINS_ROWS) {
		struct pinning *most = &pinning[0];
		for (unsigned i = 1; i < ROWS; i++)
			if (pinning[i].pinned_bytes > most->pinned_bytes)
				most = &pinning[i];
		if (!most->pinned_bytes)
			break;
		to->row[to->rows] = most->ref;
		to->row_live_bytes[to->rows] = most->live_bytes;
		to->row_pinned_bytes[to->rows++] = most->pinned_bytes;
		most->pinned_bytes = 0;
	}
}

// ---- a look --------------------------------------------------------------------------------------

static uint32_t stride_needed(void)
{
	uint64_t places = 0;
	const struct recording_table *table;
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_LIVE, order)); order++)
		places += table->capacity;
	return (uint32_t)(places / PLACES_MOST) + 1;
}

static void add_up(uint32_t stride, uint32_t phase, struct pins_sums *out)
{
	struct live_sample sample;
	enum mlf_layer layer;
	const void *address;
	for (uint64_t cursor = 0; (address = liveset_next_sample(&cursor, stride, phase, &layer, &sample));) {
		uint64_t weight = (uint64_t)sample.weight_x1024 * stride, chunk = chunk_bytes(sample.size_bytes);
		if (layer == MLF_LAYER_PYMEM) {
			// What is larger is the C library's, and a sample of its own there.
			if (sample.size_bytes <= PYMALLOC_MOST)
				out->python_bytes += times(round_up(sample.size_bytes ? sample.size_bytes : 1, 16), weight);
			continue;
		}
		if (layer == MLF_LAYER_MMAP) {
			out->mapped_bytes += times(round_up(sample.size_bytes, PAGE_BYTES), weight);
			continue;
		}
		if (!is_in_heap(layer, address, sample.size_bytes)) {
			out->large_bytes += times(round_up(chunk + 8, PAGE_BYTES), weight);
			continue;
		}
		out->native_bytes += times(chunk, weight);
		struct region *region = region_of(address, true);
		if (!region)
			continue;
		if (chunk < PAGE_BYTES) {
			region->small_x1024 += weight;
			region->small_bytes += times(chunk, weight);
		} else {
			region->large_bytes += times(chunk, weight);
		}
	}
}

// Those of sparse regions.
static void attribute(uint32_t stride, uint32_t phase)
{
	struct live_sample sample;
	enum mlf_layer layer;
	const void *address;
	for (uint64_t cursor = 0; (address = liveset_next_sample(&cursor, stride, phase, &layer, &sample));) {
		struct region *region = is_in_heap(layer, address, sample.size_bytes) ? region_of(address, false) : NULL;
		if (!region || live_of(region) >= SPARSE_BYTES)
			continue;
		uint64_t weight = (uint64_t)sample.weight_x1024 * stride, live = times(chunk_bytes(sample.size_bytes), weight);
		uint64_t small_pages = region->pages - region->large_bytes / PAGE_BYTES;
		uint64_t pinned = live;
		if (chunk_bytes(sample.size_bytes) < PAGE_BYTES && region->small_x1024)
			pinned = small_pages * PAGE_BYTES * (weight >> 4) / ((region->small_x1024 >> 4) + 1);
		take_row(sample.row, live, pinned > live ? pinned : live);
	}
}

static void write_pins(uint32_t now_cs, struct mlf_pins *to)
{
	uint64_t number = ++sequence;
	exchange_acq_rel(&to->sequence, 0); // acquire: nothing of what follows is seen before it
	exchange_acq_rel(&to->sequence_again, 0);
	to->cs = now_cs;
	to->region_bytes = MLF_PINS_REGION_BYTES;
	to->regions = to->sparse_regions = 0;
	to->live_bytes = to->sparse_bytes = to->occupied_bytes = to->sparse_occupied_bytes = 0;
	for (unsigned i = 0; i < REGIONS; i++) {
		const struct region *region = &regions[i];
		if (!region->tag)
			continue;
		uint64_t live = live_of(region), occupied = (uint64_t)region->pages * PAGE_BYTES;
		to->regions++;
		to->live_bytes += live;
		to->occupied_bytes += occupied;
		if (live < SPARSE_BYTES) {
			to->sparse_regions++;
			to->sparse_bytes += live;
			to->sparse_occupied_bytes += occupied;
		}
	}
	write_rows(to);
	store_release(&to->sequence_again, number); // both pair with readers of the file
	store_release(&to->sequence, number);
}

void pins_look(uint32_t now_cs, struct pins_sums *out)
{
	const struct recording_table *table = recording_segment(MLF_KIND_PINS, 0);
	uint32_t stride = stride_needed(), phase = looks++ % stride;
	*out = (struct pins_sums){0};
	__builtin_memset(regions, 0, sizeof(regions));
	__builtin_memset(pinning, 0, sizeof(pinning));
	add_up(stride, phase, out);
	for (unsigned i = 0; i < REGIONS; i++)
		if (regions[i].tag) {
			count_pages(&regions[i]);
			out->touched_bitmap_bytes += MLF_PINS_REGION_BYTES >> (BITMAP_GRANULE_SHIFT + 3);
		}
	if (out->touched_bitmap_bytes > BITMAP_BYTES)
		out->touched_bitmap_bytes = BITMAP_BYTES;
	attribute(stride, phase);
	if (table)
		write_pins(now_cs, (struct mlf_pins *)(void *)table->base);
}
