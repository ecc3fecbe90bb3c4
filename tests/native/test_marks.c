// test_marks.c -- each level leaves one mark on the way up, and a mark says what was held
#include "fixture.h"

#include "clock.h"
#include "marks.h"
#include "memory.h"

#include <sys/mman.h>
#include <time.h>

static const char *root;

static void put(const char *name, uint64_t number)
{
	char path[512];
	snprintf(path, sizeof(path), "%s%s", root, name);
	FILE *file = fopen(path, "w");
	CHECK(file && fprintf(file, "%lu\n", number) > 0);
	if (file)
		fclose(file);
}

static const struct mlf_mark *mark(unsigned n) // from 1 on
{
	const struct mlf_mark *all = (const void *)recording_segment(MLF_KIND_MARKS, 0)->base;
	return &all[(n - 1) % MLF_MARKS];
}

static bool used(unsigned per_mille)
{
	put("/sys/fs/cgroup/memory.current", 1000000UL * per_mille);
	return marks_look();
}

static struct mlf_row *row(uint64_t number)
{
	uint64_t frame = number << 4;
	return rows_of(&(struct rows_stack){.frame = &frame, .frames = 1, .hash = number * 977 + 1}, MLF_DOMAIN_MALLOC, 1);
}

static void test_levels(void)
{
	CHECK(!used(500) && !used(799));
	CHECK(used(800) && !used(850) && !used(899));
	CHECK(used(910));
	CHECK(!used(850) && !used(920)); // too little below it to count
	CHECK(used(999));
	CHECK_EQUAL(mark(1)->level_percent, 80);
	CHECK_EQUAL(mark(2)->level_percent, 90);
	CHECK_EQUAL(mark(3)->level_percent, 95);
	CHECK_EQUAL(mark(3)->used_bytes, 999000000);
	CHECK_EQUAL(mark(3)->limit_bytes, 1000000000);
	CHECK_EQUAL(mark(3)->limit_kind, MLF_LIMIT_CGROUP);
	CHECK(mark(3)->rss_bytes > 0);
	CHECK(!used(100));
	CHECK(used(960)); // all of them at once: one mark, the highest
	CHECK_EQUAL(mark(4)->level_percent, 95);
	CHECK(!used(840)); // 95 is armed again, the others are not
	CHECK(used(950));
	CHECK(!used(100) && used(810)); // the sixth takes the place of the first
	CHECK_EQUAL(mark(6)->level_percent, 80);
	CHECK(mark(6) == mark(1));
	for (unsigned n = 2; n <= 6; n++) {
		CHECK_EQUAL(mark(n)->sequence, n);
		CHECK_EQUAL(mark(n)->sequence_again, n);
	}
	CHECK_EQUAL(recording.header->limit_used_bytes, 810000000);
	CHECK_EQUAL(recording.header->limit_bytes, 1000000000);
	CHECK_EQUAL(recording.header->limit_kind, MLF_LIMIT_CGROUP);
	CHECK(recording.header->limit_seen_cs > 0 && recording.header->rss_bytes > 0);
}

static void test_the_largest_rows(void)
{
	enum { ROWS = 1000 };
	uint64_t state = 9, total = 0, least = 0;
	static uint64_t live[ROWS];
	used(100);
	for (unsigned i = 0; i < ROWS; i++) {
		live[i] = 1 + random_below(&state, 1 << 20);
		rows_add(row(i), live[i] + 500, 1024, 1);
		rows_remove(row(i), 500, 1024, 1);
		total += live[i];
	}
	rows_add(row(ROWS), 5000, 1024, 1); // and one that holds nothing any more
	rows_remove(row(ROWS), 5000, 1024, 1);
	CHECK(used(850));
	const struct mlf_mark *found = mark(7);
	CHECK_EQUAL(found->rows, MLF_MARK_ROWS);
	CHECK_EQUAL(found->live_bytes, total);
	for (unsigned i = 0; i < found->rows; i++) {
		const struct mlf_row *its = recording_at(found->row[i]);
		CHECK_EQUAL(its->alloc_bytes - its->freed_bytes, found->row_bytes[i]);
		CHECK(i == 0 || found->row_bytes[i - 1] >= found->row_bytes[i]);
		least = found->row_bytes[i];
	}
	unsigned larger = 0;
	for (unsigned i = 0; i < ROWS; i++)
		larger += live[i] > least;
	CHECK(larger < MLF_MARK_ROWS);
}

static void test_a_new_recording_begins_anew(void)
{
	CHECK(!used(860));
	open_private(1U << 20);
	marks_begin(); // it is above 80 % already
	CHECK_EQUAL(mark(1)->sequence, 1);
	CHECK_EQUAL(mark(1)->level_percent, 80);
	CHECK_EQUAL(mark(1)->rows, 0);
	CHECK(!mark(2)->sequence);
	CHECK(!marks_are_due());
}

static void test_no_limit(void)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	unlink(path);
	open_private(1U << 20);
	marks_begin();
	CHECK(recording.header->limit_kind == MLF_LIMIT_NONE && recording.header->limit_bytes == 0);
	CHECK(recording.header->limit_seen_cs > 0 && !mark(1)->sequence);
}

// ---- when ----------------------------------------------------------------------------------------------

// In place of the C library's: time passes when the test says so.
static uint64_t now_ns = 1000000000;

__attribute__((visibility("default"))) int clock_gettime(clockid_t which, struct timespec *now)
{
	(void)which;
	now->tv_sec = (time_t)(now_ns / 1000000000);
	now->tv_nsec = (long)(now_ns % 1000000000);
	return 0;
}

static void pass_cs(uint64_t cs) { now_ns += cs * 10000000; }

static void test_when(void)
{
	CHECK(!used(600) && !marks_are_due());
	pass_cs(110);
	CHECK(marks_are_due());
	CHECK(!used(490) && !marks_are_due());
	pass_cs(110);
	CHECK(!marks_are_due()); // less than half of it
	enum { GROWTH = 120 << 20 };
	char *grown = mmap(NULL, GROWTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(grown, 1, GROWTH);
	CHECK(marks_are_due()); // more than a sixteenth of a GB
	CHECK(!used(490));
	pass_cs(110);
	munmap(grown, GROWTH);
	CHECK(!marks_are_due());
	pass_cs(400);
	CHECK(marks_are_due());
}

int main(void)
{
	static const char *const directories[] = {"/proc", "/proc/self", "/sys", "/sys/fs", "/sys/fs/cgroup"};
	memory_root = root = temporary_directory();
	char path[512];
	for (unsigned i = 0; i < ARRAY_LEN(directories); i++) {
		snprintf(path, sizeof(path), "%s%s", root, directories[i]);
		mkdir(path, 0700);
	}
	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	FILE *file = fopen(path, "w");
	CHECK(file && fputs("0::/\n", file) >= 0);
	fclose(file);
	put("/sys/fs/cgroup/memory.max", 1000000000);
	put("/sys/fs/cgroup/memory.current", 1000);
	put("/proc/self/statm", 12345);
	snprintf(path, sizeof(path), "%s/proc/self/statm", root);
	file = fopen(path, "w");
	CHECK(file && fputs("50000 20000 300 4 0 30000 0\n", file) >= 0);
	fclose(file);
	open_private(1U << 20);
	marks_begin();
	test_when();
	test_levels();
	test_the_largest_rows();
	test_a_new_recording_begins_anew();
	test_no_limit();
	snprintf(path, sizeof(path), "rm -rf %s", root);
	CHECK(system(path) == 0);
	return harness_end();
}
