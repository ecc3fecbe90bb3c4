// test_ledger.c -- looks at what is resident stand where a reader looks for them, and say how live blocks lie
#include "fixture.h"

#include "allocator.h"
#include "clock.h"
#include "heaps.h"
#include "ledger.h"
#include "liveset.h"
#include "memory.h"
#include "modules.h"
#include "pins.h"

#include <time.h>

// In place of the C library's: time passes when the test says so.
static uint64_t now_ns = 1000000000, cpu_ns, cpu_step_ns;

__attribute__((visibility("default"))) int clock_gettime(clockid_t which, struct timespec *now)
{
	uint64_t ns = which == CLOCK_THREAD_CPUTIME_ID ? (cpu_ns += cpu_step_ns) : now_ns;
	now->tv_sec = (time_t)(ns / 1000000000);
	now->tv_nsec = (long)(ns % 1000000000);
	return 0;
}

static void pass_cs(uint64_t cs) { now_ns += cs * 10000000; }

static const char *root;

static void put_status(const char *text)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/proc/self/status", root);
	FILE *file = fopen(path, "w");
	CHECK(file && fputs(text, file) >= 0);
	fclose(file);
}

#define STATUS(anonymous) "Name:\tx\nGroups:\t1 2 3 \nVmLck:\t       8 kB\nVmPTE:\t     100 kB\nRssAnon:\t  " anonymous \
			  " kB\nRssFile:\t    2000 kB\nRssShmem:\t     300 kB\nVmSwap:\t      12 kB\nThreads:\t7\n"

static const struct mlf_ledger *entry(unsigned level, uint32_t cs)
{
	const struct mlf_ledger *all = (const void *)recording_segment(MLF_KIND_LEDGER, 0)->base;
	return &all[level * MLF_LEDGER_SLOTS + ((cs / MLF_LEDGER_UNIT_CS) >> level * MLF_LEDGER_LEVEL_SHIFT) % MLF_LEDGER_SLOTS];
}

static const struct mlf_pins *pins(void) { return (const void *)recording_segment(MLF_KIND_PINS, 0)->base; }

static void begin_anew(void)
{
	open_private(8U << 20);
	ledger_begin();
}

static void test_an_entry(void)
{
	begin_anew();
	CHECK(ledger_is_due());
	ledger_python_arena(3 << 20);
	ledger_python_arena(-(1 << 20));
	ledger_note_heap(&(struct ledger_heap){MLF_HEAP_TOLD, 5, 1000, 600, 400, 50, 100, 70});
	ledger_look();
	const struct mlf_ledger *found = entry(0, clock_now_cs());
	CHECK_EQUAL(found->sequence, 1);
	CHECK_EQUAL(found->sequence_again, 1);
	CHECK_EQUAL(found->cs, clock_now_cs());
	CHECK_EQUAL(found->anonymous_bytes, 5000 << 10);
	CHECK_EQUAL(found->file_bytes, 2000 << 10);
	CHECK_EQUAL(found->shared_bytes, 300 << 10);
	CHECK_EQUAL(found->swapped_bytes, 12 << 10);
	CHECK_EQUAL(found->locked_bytes, 8 << 10);
	CHECK_EQUAL(found->page_table_bytes, 100 << 10);
	CHECK_EQUAL(found->threads, 7);
	CHECK_EQUAL(found->python_arena_bytes, 2 << 20);
	CHECK_EQUAL(found->heap_state, MLF_HEAP_TOLD);
	CHECK_EQUAL(found->heap_cs, clock_now_cs());
	CHECK(found->heap_us == 5 && found->heap_bytes == 1000 && found->heap_used_bytes == 600 && found->heap_free_bytes == 400);
	CHECK(found->heap_fast_bytes == 50 && found->heap_top_bytes == 100 && found->heap_mapped_bytes == 70);
	CHECK(found->own_bytes >= MLF_ROOM_OFFSET);
	ledger_python_arena(-(5 << 20)); // arenas that were there before us: not below 0
	// What cannot be told any more leaves the figures that were told, and says of when they are.
	uint32_t told_cs = found->heap_cs;
	pass_cs(1000);
	ledger_note_heap(&(struct ledger_heap){.state = MLF_HEAP_TOO_LONG});
	ledger_look();
	found = entry(0, clock_now_cs());
	CHECK(found->heap_state == MLF_HEAP_TOO_LONG && found->heap_cs == told_cs && found->heap_used_bytes == 600);
	CHECK_EQUAL(found->python_arena_bytes, 0);
	ledger_python_arena(3 << 20);
}

static void test_when(void)
{
	begin_anew();
	ledger_look();
	CHECK(!entry(0, clock_now_cs())->heap_state && !entry(0, clock_now_cs())->heap_used_bytes); // those were of another recording
	unsigned looks = 1;
	for (unsigned s = 0; s < 60; s++) {
		pass_cs(100);
		if (ledger_is_due()) {
			ledger_look();
			looks++;
		}
	}
	CHECK(looks > 8 && looks < 20);
	uint64_t before = looks;
	for (unsigned s = 0; s < 600; s++) {
		pass_cs(100);
		if (ledger_is_due()) {
			ledger_look();
			looks++;
		}
	}
	CHECK_EQUAL(looks - before, 60);
}

static void test_levels_reach_back(void)
{
	enum { LOOKS = 20000 };
	begin_anew();
	uint32_t begun = clock_now_cs();
	for (unsigned i = 0; i < LOOKS; i++) {
		pass_cs(1000);
		ledger_look();
	}
	uint32_t now = clock_now_cs(), oldest = now;
	unsigned different = 0;
	const struct mlf_ledger *all = entry(0, 0);
	for (unsigned level = 0; level < MLF_LEDGER_LEVELS; level++)
		for (unsigned slot = 0; slot < MLF_LEDGER_SLOTS; slot++) {
			const struct mlf_ledger *each = &all[level * MLF_LEDGER_SLOTS + slot];
			CHECK(each->sequence && each->sequence == each->sequence_again);
			CHECK(entry(level, each->cs) == each);
			uint32_t period = MLF_LEDGER_UNIT_CS << level * MLF_LEDGER_LEVEL_SHIFT;
			CHECK(now - each->cs < period * (MLF_LEDGER_SLOTS + 1));
			// The last look of its period: of the one that runs, the latest.
			CHECK(each->cs == now || each->cs % period >= period - MLF_LEDGER_UNIT_CS);
			if (each->cs < oldest)
				oldest = each->cs;
			different += level == 0 || now - each->cs >= MLF_LEDGER_UNIT_CS * MLF_LEDGER_SLOTS;
		}
	CHECK(oldest - begun < 5400000 && now - oldest > 40 * 360000); // forty hours
	CHECK(different > 60);
}

static void test_no_status(void)
{
	begin_anew();
	pass_cs(1000);
	put_status("Name:\tx\nVmRSS:\t 5 kB\n"); // before Linux 4.5
	ledger_look();
	CHECK_EQUAL(entry(0, clock_now_cs())->sequence, 0);
	put_status(STATUS("5000"));
	ledger_look();
	CHECK_EQUAL(entry(0, clock_now_cs())->sequence, 1);
	CHECK(!ledger_is_due());
}

// ---- how blocks lie ------------------------------------------------------------------------------

static struct mlf_row *row(uint64_t number)
{
	uint64_t frame = number << 4;
	return rows_of(&(struct rows_stack){.frame = &frame, .frames = 1, .hash = number * 977 + 1}, MLF_DOMAIN_MALLOC, 1);
}

static bool put(uint64_t address, uint64_t size_bytes, uint32_t weight, uint64_t its_row, enum mlf_layer layer)
{
	return liveset_insert((void *)(uintptr_t)address, layer,
			      &(struct live_sample){.size_bytes = size_bytes, .weight_x1024 = weight << 10, .row = recording_ref(row(its_row))});
}

static void test_pins(void)
{
	enum { DENSE = 8, SPARSE = 32 };
	uint64_t state = 5, base = 0x7f0000000000, page = 4096, region = MLF_PINS_REGION_BYTES;
	double occupied = 0;
	begin_anew();
	// Full of blocks of 1,000 bytes, sampled one in 16; then one of 200 bytes for each 16 KiB at random places, from two stacks.
	for (unsigned r = 0; r < DENSE; r++)
		for (uint64_t at = 0; at + 16 * 1008 <= region; at += 16 * 1008)
			CHECK(put(base + r * region + at + 16, 1000, 16, 1, MLF_LAYER_MALLOC));
	for (unsigned r = DENSE; r < DENSE + SPARSE; r++)
		for (unsigned i = 0; i < 256; i++)
			CHECK(put(base + r * region + (random_below(&state, region - page) & ~15ULL), 200, 1, i % 4 ? 2 : 3, MLF_LAYER_MALLOC));
	put(base - (1 << 20) + 16, 900 << 10, 1, 4, MLF_LAYER_MALLOC); // the C library's own mapping
	put(base - (4 << 20), 512, 2, 5, MLF_LAYER_PYMEM);
	put(base - (4 << 20) + 512, 2000, 2, 5, MLF_LAYER_PYMEM); // passed on to malloc
	put(base - (64 << 20), 10000, 1, 6, MLF_LAYER_MMAP);
	struct pins_sums sums;
	pins_look(7, &sums);
	const struct mlf_pins *found = pins();
	CHECK(found->sequence == 1 && found->sequence_again == 1 && found->cs == 7);
	CHECK_EQUAL(found->regions, DENSE + SPARSE);
	CHECK_EQUAL(found->sparse_regions, SPARSE);
	CHECK_EQUAL(found->sparse_bytes, SPARSE * 256 * 208);
	CHECK(sums.native_bytes == found->live_bytes && sums.native_bytes > DENSE * region * 99 / 100);
	CHECK_EQUAL(sums.large_bytes, (900 << 10) + 4096);
	CHECK_EQUAL(sums.python_bytes, 1024);
	CHECK_EQUAL(sums.mapped_bytes, 12288);
	CHECK_EQUAL(sums.touched_bitmap_bytes, (DENSE + SPARSE) * region / 256);
	// Random places are what the model says: 2 % for chance and for words in place of fractions.
	occupied = SPARSE * (double)region * (1 - exp(-256 * (1 + (208 + 48) / 4096.0) / 1024));
	CHECK(fabs((double)found->sparse_occupied_bytes / occupied - 1) < 0.02);
	CHECK_EQUAL(found->rows, 2);
	CHECK_EQUAL(found->row[0], recording_ref(row(2)));
	CHECK_EQUAL(found->row[1], recording_ref(row(3)));
	CHECK_EQUAL(found->row_live_bytes[0], SPARSE * 192 * 208);
	CHECK(fabs((double)(found->row_pinned_bytes[0] + found->row_pinned_bytes[1]) / (double)found->sparse_occupied_bytes - 1) < 0.02);
	CHECK(fabs((double)found->row_pinned_bytes[0] / (double)found->row_pinned_bytes[1] / 3 - 1) < 0.02);
}

// A large block that no header of a mapping stands before is in a heap, and fills its pages.
static void test_large(void)
{
	struct pins_sums sums;
	begin_anew();
	put(0x7f0000000040, 200 << 10, 1, 1, MLF_LAYER_MALLOC);
	pins_look(1, &sums);
	CHECK_EQUAL(sums.large_bytes, 0);
	CHECK_EQUAL(sums.native_bytes, (200 << 10) + 16);
	CHECK_EQUAL(pins()->occupied_bytes, 200 << 10);
}

// Of a large live set a part is looked at each time; the sums stay right.
static void test_many(void)
{
	enum { SAMPLES = 150000 };
	open_private(24U << 20);
	ledger_begin();
	uint64_t dropped = 0;
	for (uint64_t i = 0; i < SAMPLES; i++)
		dropped += !put(0x7e0000000000 + i * 480, 104, 4, 1 + i % 300, MLF_LAYER_MALLOC);
	CHECK(dropped < SAMPLES / 100);
	double truth = (double)(SAMPLES - dropped) * 4 * 112, total = 0;
	for (unsigned looks = 0; looks < 6; looks++) {
		struct pins_sums sums;
		pins_look(1, &sums);
		CHECK(fabs((double)sums.native_bytes / truth - 1) < 0.03);
		total += (double)sums.native_bytes / 6;
	}
	CHECK(fabs(total / truth - 1) < 0.01);
	CHECK(pins()->rows <= MLF_PINS_ROWS && pins()->sequence == 6);
}

// ---- the C library -------------------------------------------------------------------------------

static void test_the_c_library(void)
{
	struct ledger_heap before, after;
	if (!heaps_ask(&before)) {
		CHECK(before.state == MLF_HEAP_CANNOT_TELL); // glibc before 2.33
		return;
	}
	void *blocks[100], *large = malloc(1 << 20);
	for (unsigned i = 0; i < ARRAY_LEN(blocks); i++)
		blocks[i] = malloc(2000);
	heaps_ask(&after);
	CHECK_EQUAL(after.state, MLF_HEAP_TOLD);
	CHECK_EQUAL(after.used_bytes - before.used_bytes, ARRAY_LEN(blocks) * 2016);
	CHECK_EQUAL(after.mapped_bytes - before.mapped_bytes, (1 << 20) + 4096);
	CHECK_EQUAL(after.bytes, after.used_bytes + after.free_bytes);
	for (unsigned i = 0; i < ARRAY_LEN(blocks); i++)
		free(blocks[i]);
	free(large);
}

static void *another_malloc(size_t bytes)
{
	(void)bytes;
	return NULL;
}

static const struct mlf_ledger *asked_after(uint64_t cs)
{
	pass_cs(cs);
	heaps_ask_if_due();
	ledger_look();
	return entry(0, clock_now_cs());
}

// It takes one part in 2,000 of the time at most, and nothing after a time that took long.
static void test_asking(void)
{
	struct ledger_heap told;
	if (!heaps_ask(&told))
		return;
	begin_anew();
	heaps_begin();
	cpu_step_ns = 1000000;
	uint32_t first_cs = asked_after(100)->heap_cs;
	CHECK_EQUAL(first_cs, clock_now_cs());
	CHECK_EQUAL(asked_after(150)->heap_cs, first_cs);
	CHECK_EQUAL(asked_after(1000)->heap_cs, first_cs + 1150);
	cpu_step_ns = 20001000;
	CHECK_EQUAL(asked_after(5000)->heap_state, MLF_HEAP_TOO_LONG);
	first_cs = clock_now_cs();
	cpu_step_ns = 1000;
	CHECK_EQUAL(asked_after(100000)->heap_state, MLF_HEAP_TOO_LONG);
	CHECK_EQUAL(asked_after(100000)->heap_cs, first_cs);
	begin_anew();
	heaps_begin();
	CHECK_EQUAL(asked_after(1000)->heap_state, MLF_HEAP_TOLD);
	void *(*its)(size_t) = real.malloc;
	modules_init(false);
	modules_refresh();
	real.malloc = malloc;
	CHECK_EQUAL(asked_after(1000)->heap_state, MLF_HEAP_TOLD);
	real.malloc = another_malloc;
	CHECK_EQUAL(asked_after(1000)->heap_state, MLF_HEAP_OTHER);
	real.malloc = its;
}

int main(void)
{
	char path[512];
	memory_root = root = temporary_directory();
	snprintf(path, sizeof(path), "%s/proc", root);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/proc/self", root);
	mkdir(path, 0700);
	put_status(STATUS("5000"));
	test_an_entry();
	test_when();
	test_levels_reach_back();
	test_no_status();
	test_pins();
	test_large();
	test_many();
	test_the_c_library();
	test_asking();
	snprintf(path, sizeof(path), "rm -rf %s", root);
	CHECK(system(path) == 0);
	return harness_end();
}
