// test_regions.c -- mappings cut anywhere, held against a model of single pages
//
//     test_regions [--short]
#include "traced.h"

#include "mappings.h"
#include "regions.h"

// ---- the table ---------------------------------------------------------------------------------------

static uint64_t added, taken, wrong;
static int storm_steps = 30000;

// Each thread owns a range of addresses; everybody takes what overlaps anywhere.
static void *storm(void *number)
{
	uint64_t me = (uintptr_t)number, state = 9 + me;
	uintptr_t base = 0x10000000 + me * 0x1000000;
	for (int i = 0; i < storm_steps; i++) {
		uintptr_t start = base + random_below(&state, 64) * 0x10000;
		if (i % 2 == 0) {
			if (regions_add((struct region){start, start + 0x10000}))
				add_relaxed(&added, 1);
		} else {
			uintptr_t from = 0x10000000 + random_below(&state, 4) * 0x1000000;
			struct region wanted = {from, from + 0x200000}, out;
			while (regions_take_overlap(wanted, &out)) {
				add_relaxed(&taken, 1);
				add_relaxed(&wrong, out.end != out.start + 0x10000 || out.start >= wanted.end || out.end <= wanted.start);
			}
		}
	}
	return NULL;
}

static uint32_t met;

static void *take_at_once(void *number)
{
	const struct region one = {0x50000, 0x60000};
	for (uint32_t round = 1; round <= (uint32_t)storm_steps; round++) {
		struct region out;
		if (!number && regions_add(one))
			add_relaxed(&added, 1);
		meet(&met, 2, 2 * round - 1);
		while (regions_take_overlap(one, &out))
			add_relaxed(&taken, 1);
		meet(&met, 2, 2 * round);
	}
	return NULL;
}

static void test_each_region_is_taken_once(void)
{
	struct region out;
	CHECK(!regions_any());
	in_threads(4, storm);
	in_threads(2, take_at_once);
	while (regions_take_overlap((struct region){0, UINTPTR_MAX}, &out))
		taken++;
	CHECK_EQUAL(wrong, 0);
	CHECK_EQUAL(added, taken);
}

static void test_borders(void)
{
	struct region out;
	CHECK(regions_add((struct region){0x20000, 0x30000}));
	CHECK(!regions_take_overlap((struct region){0x10000, 0x20000}, &out));
	CHECK(!regions_take_overlap((struct region){0x30000, 0x40000}, &out));
	CHECK(regions_take_overlap((struct region){0x2FFFF, 0x30000}, &out) && out.start == 0x20000 && out.end == 0x30000);
	CHECK(!regions_take_overlap((struct region){0, UINTPTR_MAX}, &out));
	CHECK(regions_add((struct region){0x20000, 0x30000}));
	regions_drop();
	CHECK(!regions_any() && !regions_take_overlap((struct region){0, UINTPTR_MAX}, &out));
}

// ---- mmap, munmap, mremap, MAP_FIXED against pages -----------------------------------------------------

#define PAGES 4000UL
#define BASE 0x7F0000000000UL

static uint32_t owner[PAGES];  // number of the mapping that holds a page, 0 = none we know of
static uint32_t bytes_of[PAGES]; // bytes of it that were asked for: the last page of a mapping may be partial
static uint32_t mappings;
static struct registers caller;

static void model_map(unsigned long page, uint64_t bytes)
{
	mappings++;
	for (uint64_t done = 0; done < bytes; done += PAGE_BYTES, page++) {
		owner[page] = mappings;
		bytes_of[page] = (uint32_t)(bytes - done < PAGE_BYTES ? bytes - done : PAGE_BYTES);
	}
}

static void model_unmap(unsigned long page, uint64_t bytes)
{
	for (uint64_t done = 0; done < bytes; done += PAGE_BYTES, page++)
		owner[page] = bytes_of[page] = 0;
}

static void *at_page(unsigned long page) { return (void *)(BASE + page * PAGE_BYTES); }

// A page of `covers` for each live sample that holds it; false if two do, or a sample is not of pages.
static bool covered_pages(unsigned char *covers, uint64_t *total)
{
	bool sound = true;
	const struct recording_table *table;
	memset(covers, 0, PAGES);
	*total = 0;
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_LIVE, order)); order++) {
		const uint64_t *keys = (const uint64_t *)(const void *)table->base;
		const struct mlf_live *entries = (const struct mlf_live *)(const void *)(keys + table->capacity);
		for (uint32_t i = 0; i < table->capacity; i++) {
			if (!(keys[i] & MLF_LIVE_KEY_LIVE))
				continue;
			uint64_t start = ((keys[i] ^ recording.secret) & MLF_LIVE_KEY_ADDRESS_MASK) - BASE;
			sound = sound && start % PAGE_BYTES == 0;
			*total += entries[i].size_bytes;
			for (uint64_t page = start / PAGE_BYTES; page * PAGE_BYTES < start + entries[i].size_bytes && page < PAGES; page++) {
				sound = sound && !covers[page];
				covers[page] = 1;
			}
		}
	}
	return sound;
}

static void compare_with_model(void)
{
	static unsigned char covers[PAGES];
	uint64_t total, expected = 0;
	unsigned differing = 0;
	CHECK(covered_pages(covers, &total));
	for (unsigned long page = 0; page < PAGES; page++) {
		expected += bytes_of[page];
		differing += covers[page] != (owner[page] != 0);
	}
	CHECK_EQUAL(differing, 0);
	CHECK_EQUAL(total, expected);
	struct totals sum = totals_of();
	CHECK_EQUAL(sum.live, sum.row_samples);
	CHECK_EQUAL(sum.live_bytes, sum.row_bytes);
}

static void test_against_model(unsigned operations)
{
	uint64_t state = 3, out_of_sight = 0, lost = stats_value(MLF_COUNTER_lost);
	for (unsigned i = 0; i < operations; i++) {
		unsigned long page = random_below(&state, PAGES - 700);
		uint64_t bytes = (64U << 10) + random_below(&state, 1U << 20);
		struct mappings_cut moved, replaced;
		switch (random_below(&state, 8)) {
		case 0: // a part, or several mappings at once, go
		case 1:
			tracer_unmapping(at_page(page), bytes, &moved);
			model_unmap(page, bytes);
			break;
		case 2: // the same, but the kernel refuses
			bytes = 1 + bytes / 8;
			tracer_unmapping(at_page(page), bytes, &moved);
			if (moved.count <= MAPPINGS_CUT_KEPT)
				tracer_unmap_failed(&moved);
			else
				model_unmap(page, bytes);
			break;
		case 3: // MAP_FIXED
		case 4:
			tracer_unmapping(at_page(page), bytes, &replaced);
			tracer_mapped(at_page(page), bytes, &caller);
			model_map(page, bytes);
			break;
		case 5: { // mremap from anywhere to anywhere
			unsigned long to = random_below(&state, PAGES - 700);
			tracer_unmapping(at_page(page), bytes, &moved);
			tracer_unmapping(at_page(to), bytes, &replaced);
			tracer_mapped(at_page(to), bytes, &caller);
			model_unmap(page, bytes);
			model_map(to, bytes);
			break;
		}
		default: // mmap; if something was there, it was unmapped past us
			for (unsigned long p = page; p < page + (bytes + PAGE_BYTES - 1) / PAGE_BYTES; p++)
				if (owner[p]) {
					out_of_sight++;
					break;
				}
			tracer_mapped(at_page(page), bytes, &caller);
			model_map(page, bytes);
		}
		if (i % 16 == 0 || i + 100 > operations)
			compare_with_model();
	}
	CHECK(stats_value(MLF_COUNTER_lost) - lost >= out_of_sight && out_of_sight > 10);
	CHECK_EQUAL(stats_value(MLF_COUNTER_region_full), 0);
	struct mappings_cut everything;
	lost = stats_value(MLF_COUNTER_lost);
	tracer_unmapping(at_page(0), PAGES * PAGE_BYTES, &everything);
	CHECK(everything.count > MAPPINGS_CUT_KEPT);
	CHECK_EQUAL(stats_value(MLF_COUNTER_lost), lost); // nothing is lost by unmapping many at once
	CHECK_EQUAL(totals_of().live, 0);
	memset(owner, 0, sizeof(owner));
}

// One mapping more than the table holds: it is dropped and counted, and so is a piece cut from one.
static void test_full_table(void)
{
	enum { TABLE = 4096 };
	uint64_t full = stats_value(MLF_COUNTER_region_full);
	for (uint64_t i = 0; i < TABLE; i++)
		tracer_mapped((void *)(BASE + i * 0x100000), 0x30000, &caller);
	CHECK_EQUAL(stats_value(MLF_COUNTER_region_full), full);
	CHECK_EQUAL(totals_of().live, TABLE);
	tracer_mapped((void *)(BASE + TABLE * 0x100000ULL), 0x30000, &caller);
	CHECK_EQUAL(stats_value(MLF_COUNTER_region_full), full + 1);
	struct mappings_cut middle;
	tracer_unmapping((void *)(BASE + 0x110000), 0x10000, &middle);
	CHECK_EQUAL(stats_value(MLF_COUNTER_region_full), full + 2);
	struct totals sum = totals_of();
	CHECK_EQUAL(sum.live, TABLE);
	CHECK_EQUAL(sum.live, sum.row_samples);
	CHECK_EQUAL(sum.live_bytes, sum.row_bytes);
	CHECK_EQUAL(sum.live_bytes, (TABLE - 1) * 0x30000 + 0x10000);
	tracer_unmapping((void *)BASE, (TABLE + 1) * 0x100000ULL, &middle);
	sum = totals_of();
	CHECK_EQUAL(sum.live + sum.row_samples + sum.row_bytes, 0);
}

int main(int argc, char **argv)
{
	bool less = short_run(argc, argv);
	if (less)
		storm_steps = 3000;
	test_borders();
	test_each_region_is_taken_once();
	const char *directory = temporary_directory();
	caller = REGISTERS_OF_CALLER();
	start_tracing(directory, SAMPLER_FULL, false);
	test_against_model(less ? 1000 : 30000);
	test_full_table();
	remove_directory(directory);
	return harness_end();
}
