// test_recording.c -- room is handed out once, and whatever the system refuses, a recording opens
#include "fixture.h"

#include "clock.h"
#include "place.h"
#include "stats.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static bool open_in(const char *directory, const char *runtime, uint32_t start_bytes, const char **why)
{
	struct recording_options options = fixture_options(directory, start_bytes);
	options.runtime_directory = runtime;
	return recording_open(&options, why);
}

static void in_child(void (*body)(const char *), const char *argument)
{
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		checks_failed = 0;
		body(argument);
		_exit(checks_failed ? 1 : 0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// ---- room ----------------------------------------------------------------------------------------------

static void test_take(void)
{
	uint64_t state = 3, end = recording.header->room_used;
	open_private(1U << 20);
	end = recording.header->room_used;
	unsigned refused = 0;
	for (int i = 0; i < 20000; i++) {
		uint32_t bytes = 1 + (uint32_t)random_below(&state, 400), alignment = 16U << random_below(&state, 3);
		unsigned char *at = recording_take(bytes, alignment);
		if (!at) {
			refused++;
			continue;
		}
		CHECK((uintptr_t)at % alignment == 0 && (uint64_t)(at - recording.base) >= end);
		CHECK(at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0); // zeroed
		memset(at, 0xFF, bytes);
		end = (uint64_t)(at - recording.base) + bytes;
		CHECK(end <= recording.header->room_backed);
		CHECK(recording_at(recording_ref(at)) == at);
	}
	CHECK(refused > 10000);
	CHECK(!recording_take(UINT32_MAX, 16) && !recording_take(4096, 16));
}

static void nothing_happens(int signal) { (void)signal; }

#define TAKERS 8
static uint64_t bytes_taken;

static void *take_all(void *number)
{
	unsigned char mark = (unsigned char)(1 + (uintptr_t)number);
	uint64_t state = 5 + mark, total = 0;
	for (unsigned refused = 0; refused < 100;) {
		uint32_t bytes = 16 * (1 + (uint32_t)random_below(&state, 8));
		unsigned char *at = recording_take(bytes, 16);
		if (!at) {
			refused++;
			continue;
		}
		for (uint32_t i = 0; i < bytes; i++)
			if (add_relaxed(&at[i], mark) != 0)
				abort(); // somebody else has it
		total += bytes;
	}
	add_relaxed(&bytes_taken, total);
	return NULL;
}

static void test_takes_never_overlap(void)
{
	open_private(2U << 20);
	uint64_t before = recording.header->room_used;
	in_threads(TAKERS, take_all);
	CHECK_EQUAL(recording.header->room_used - before, bytes_taken);
	CHECK(recording.header->room_backed - recording.header->room_used < 200);
}

static pthread_barrier_t barrier;
static unsigned char *base_seen[TAKERS];
static unsigned order_added;

static void *add_segment(void *number)
{
	pthread_barrier_wait(&barrier);
	bool there = recording_add_segment(MLF_KIND_LIVE, order_added, 64, 40);
	const struct recording_table *table = recording_segment(MLF_KIND_LIVE, order_added);
	// True means it is there; false also stands for "another thread is at it".
	base_seen[(uintptr_t)number] = there ? table->base : NULL;
	return NULL;
}

static void test_segment_is_added_once(void)
{
	open_private(4U << 20);
	pthread_barrier_init(&barrier, NULL, TAKERS);
	for (order_added = 1; order_added < RECORDING_SEGMENTS; order_added++) {
		uint32_t entries = recording.header->segment_count;
		in_threads(TAKERS, add_segment);
		const struct recording_table *table = recording_segment(MLF_KIND_LIVE, order_added);
		CHECK(table && table->capacity == 64);
		CHECK_EQUAL(recording.header->segment_count, entries + 1);
		for (int i = 0; i < TAKERS; i++)
			CHECK(!base_seen[i] || base_seen[i] == table->base);
		const struct mlf_segment *segment = (struct mlf_segment *)(void *)(recording.base + MLF_DIRECTORY_OFFSET) + entries;
		CHECK(segment->kind == MLF_KIND_LIVE && segment->version == 1 && segment->order == order_added);
		CHECK(segment->capacity == 64 && segment->record_bytes == 40 && segment->bytes == 64 * 40);
		CHECK(recording.base + segment->offset == table->base && segment->offset % 64 == 0);
	}
	CHECK(!recording_add_segment(MLF_KIND_LIVE, RECORDING_SEGMENTS, 64, 40));
	CHECK(!recording_segment(MLF_KIND_LIVE, RECORDING_SEGMENTS));
}

static void test_no_room_for_a_segment(void)
{
	open_private(1U << 20);
	CHECK(!recording_add_segment(MLF_KIND_LIVE, 1, 1U << 20, 40));
	CHECK(!recording_add_segment(MLF_KIND_LIVE, 1, UINT32_MAX, 40));
	CHECK(!recording_segment(MLF_KIND_LIVE, 1));
	CHECK(recording_add_segment(MLF_KIND_LIVE, 1, 64, 40)); // a refusal is not for ever
}

// ---- files -----------------------------------------------------------------------------------------------

static void test_growth(const char *directory)
{
	const char *why;
	struct stat about;
	CHECK(open_in(directory, NULL, RECORDING_START_BYTES, &why) && !recording.is_private && !why);
	struct mlf_header *header = recording.header;
	CHECK_EQUAL(header->room_backed, RECORDING_START_BYTES);
	CHECK(!recording_grow()); // enough is free
	CHECK(!recording_take(RECORDING_START_BYTES, 16));
	uint64_t grown = 0, backed = header->room_backed;
	for (unsigned i = 0; i < 1000; i++) {
		while (recording_take(200000, 16))
			;
		if (!recording_grow())
			break;
		grown++;
		CHECK_EQUAL(header->room_backed, backed += RECORDING_STEP_BYTES);
		CHECK(stat(recording.path, &about) == 0 && (uint64_t)about.st_blocks * 512 >= backed);
	}
	CHECK_EQUAL(header->room_backed, header->file_bytes); // 32 MiB, and not a byte more
	CHECK_EQUAL(grown, (header->file_bytes - RECORDING_START_BYTES) / RECORDING_STEP_BYTES);
	CHECK_EQUAL(stats_value(MLF_COUNTER_room_grown), grown);
	CHECK_EQUAL((uint64_t)about.st_blocks * 512, header->file_bytes);
}

static uint64_t stat_field(int wanted) // of /proc/self/stat, counted behind the command
{
	char text[1024];
	FILE *file = fopen("/proc/self/stat", "r");
	size_t n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = 0;
	char *at = strrchr(text, ')') + 1;
	for (int field = 3; field < wanted; field++)
		at = strchr(at + 1, ' ');
	return strtoull(at, NULL, 10);
}

static void read_line(const char *path, char *to, int room)
{
	FILE *file = fopen(path, "r");
	CHECK(file && fgets(to, room, file));
	fclose(file);
	to[strcspn(to, "\n")] = 0;
}

static unsigned open_files(void)
{
	unsigned n = 0;
	DIR *directory = opendir("/proc/self/fd");
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

// A profiler's timer, and a kernel that takes back half a file's backing when a signal comes.
static void interrupted_often(const char *directory)
{
	const char *why;
	const struct itimerval often = {{0, 150}, {0, 150}}, never = {{0, 0}, {0, 0}};
	signal(SIGALRM, nothing_happens);
	for (int i = 0; i < 10; i++) {
		setitimer(ITIMER_REAL, &often, NULL);
		bool opened = open_in(directory, NULL, 8U << 20, &why);
		setitimer(ITIMER_REAL, &never, NULL);
		CHECK(opened && !recording.is_private);
		CHECK_EQUAL(recording.header->room_backed, 8U << 20);
		recording_close(MLF_STATE_STOPPED);
	}
}

static void test_header(const char *directory)
{
	const char *why;
	static const uint8_t build_id[20] = {1, 2, 3, 4};
	struct recording_options options = fixture_options(directory, RECORDING_START_BYTES);
	options.interval = 256 << 16 | 16;
	options.run_id = 77, options.parent_recording_id = 88, options.build_id = build_id, options.build_id_bytes = 20;
	unsigned files = open_files();
	CHECK(recording_open(&options, &why) && !recording.is_private);
	CHECK_EQUAL(open_files(), files);
	const struct mlf_header *h = recording.header;
	char text[256], boot[64] = "", *s = boot;
	struct stat about;
	CHECK(h->magic == MLF_MAGIC && h->version == MLF_VERSION && h->header_bytes == MLF_HEADER_BYTES);
	CHECK(h->state == MLF_STATE_RECORDING && h->file_bytes == RECORDING_CAP_DEFAULT && h->stopped_at_cs == 0);
	CHECK(h->pid == (uint32_t)getpid() && h->parent_pid == (uint32_t)getppid() && h->uid == geteuid());
	CHECK(h->run_id == 77 && h->parent_recording_id == 88 && h->recording_id != 0);
	CHECK(h->core_build_id_bytes == 20 && memcmp(h->core_build_id, build_id, 20) == 0);
	CHECK_EQUAL(h->start_ticks, stat_field(22));
	CHECK_EQUAL(h->clock_ticks_per_s, sysconf(_SC_CLK_TCK));
	CHECK(stat("/proc/self/ns/pid", &about) == 0 && h->pid_namespace == about.st_ino);
	read_line("/proc/sys/kernel/random/boot_id", text, sizeof(text));
	for (const char *t = text; *t; t++)
		if (*t != '-')
			*s++ = *t;
	for (int i = 0; i < 16; i++) {
		char byte[3];
		snprintf(byte, sizeof(byte), "%02x", h->boot_id[i]);
		CHECK(memcmp(byte, boot + 2 * i, 2) == 0);
	}
	CHECK(gethostname(text, sizeof(text)) == 0 && strncmp(h->host_name, text, sizeof(h->host_name) - 1) == 0);
	read_line("/proc/self/comm", text, sizeof(text));
	CHECK(strcmp(h->command, text) == 0);
	CHECK(llabs((long long)(h->start_realtime_ns / 1000000000) - (long long)time(NULL)) <= 1);
	CHECK(clock_monotonic_precise_ns() - h->start_monotonic_ns < 1000000000);
	CHECK(h->requested == options.interval && h->effective == options.interval && h->initial == options.interval);
	CHECK(h->requested_sample_bytes == SAMPLER_DEFAULT_BYTES && h->effective_sample_bytes == SAMPLER_DEFAULT_BYTES);
	CHECK(h->size_always_bytes == SAMPLER_SIZE_ALWAYS && h->mmap_always_bytes == 65536 && h->max_frames == MAX_FRAMES);
	CHECK(stat(recording.path, &about) == 0 && (about.st_mode & 07777) == 0600 && about.st_size == RECORDING_CAP_DEFAULT);
	uint64_t secret = recording.secret, id = h->recording_id;
	CHECK(secret <= MLF_LIVE_KEY_ADDRESS_MASK && memmem(recording.base, h->room_used, &secret, 6) == NULL);

	recording_close(MLF_STATE_EXITED);
	CHECK(h->state == MLF_STATE_EXITED && h->stopped_at_cs >= 1);
	CHECK(recording_open(&options, &why)); // at the same place: who holds a pointer to the header may follow it
	CHECK(recording.header == h && h->recording_id != id && recording.secret != secret);
	CHECK_EQUAL(h->state, MLF_STATE_RECORDING);
	CHECK_EQUAL(h->room_backed, RECORDING_START_BYTES);
}

static uint64_t address_space(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	CHECK(file && fscanf(file, "%lu", &pages) == 1);
	fclose(file);
	return pages * PAGE_BYTES;
}

static void reopened_often(const char *directory)
{
	const char *why;
	struct recording_options small = fixture_options(directory, 1U << 20), large = small; // small: what others here had
	CHECK(recording_open(&small, &why));
	const struct mlf_header *first = recording.header;
	uint64_t first_id = first->recording_id;
	large.cap_bytes = 2 * RECORDING_CAP_DEFAULT;
	CHECK(recording_open(&large, &why) && recording.header != first);
	CHECK(first->recording_id == first_id); // it did not fit there: both stay mapped
	const struct mlf_header *home = recording.header;
	unsigned long before = address_space();
	for (int i = 0; i < 200; i++) {
		recording_close(MLF_STATE_STOPPED); // the pruner may take stopped ones of a living process
		CHECK(recording_open(i % 3 ? &large : &small, &why) && recording.header == home);
	}
	CHECK_EQUAL(address_space(), before);
	unsigned files = 0;
	DIR *d = opendir(directory);
	for (struct dirent *entry; (entry = readdir(d));)
		files += strstr(entry->d_name, ".mlrec") != NULL;
	closedir(d);
	CHECK(files <= 17 + 2); // the two first were never closed
}

// ---- refusals --------------------------------------------------------------------------------------------

static void limit_to(int which, uint64_t bytes)
{
	struct rlimit limit = {bytes, RLIM_INFINITY};
	getrlimit(which, &limit);
	limit.rlim_cur = bytes;
	CHECK(setrlimit(which, &limit) == 0);
}

static void small_file_limit(const char *directory) // SIGXFSZ would end this process
{
	const char *why;
	limit_to(RLIMIT_FSIZE, 900 << 10);
	CHECK(open_in(directory, NULL, RECORDING_START_BYTES, &why) && !recording.is_private);
	CHECK(recording.header->file_bytes <= 900 << 10 && recording.header->room_backed <= recording.header->file_bytes);
	while (recording_take(1000, 16))
		;
	CHECK(!recording_grow());
	limit_to(RLIMIT_FSIZE, 100 << 10);
	CHECK(open_in(directory, NULL, RECORDING_START_BYTES, &why) && recording.is_private && why != NULL);
	CHECK(recording_take(1000, 16) && !recording_grow());
}

static void small_address_space(const char *directory)
{
	const char *why;
	limit_to(RLIMIT_AS, address_space() + (10U << 20)); // not 32 MiB, but 8
	CHECK(open_in(directory, NULL, RECORDING_START_BYTES, &why) && !recording.is_private);
	CHECK_EQUAL(recording.header->file_bytes, 8U << 20);
	limit_to(RLIMIT_AS, address_space() + (64U << 10));
	CHECK(!open_in(directory, NULL, RECORDING_START_BYTES, &why)); // not even private memory
}

static void read_only_directory(const char *directory)
{
	const char *why;
	if (getuid() == 0) // to whom modes mean nothing
		CHECK(chown(directory, 65534, 65534) == 0 && setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
	CHECK(chmod(directory, 0500) == 0);
	CHECK(open_in(directory, NULL, RECORDING_START_BYTES, &why) && recording.is_private && why && recording.path[0] == 0);
	chmod(directory, 0700);
}

// Each of these is passed over for the next place, and said.
static void test_unfit_directories(void)
{
	const char *why, *runtime = temporary_directory(), *unfit = temporary_directory(), *base = temporary_directory();
	char link[128], file[128], memleak[128];
	snprintf(link, sizeof(link), "%s/link", base);
	snprintf(file, sizeof(file), "%s/file", base);
	snprintf(memleak, sizeof(memleak), "%s/memleak", runtime);
	CHECK(symlink(unfit, link) == 0 && creat(file, 0600) >= 0 && chmod(unfit, 0755) == 0);
	// Open to others, a symbolic link, no directory, no parent, another's, not tmpfs, relative.
	const char *const paths[] = {unfit, link, file, "/proc/none/x", "/dev/shm", "/proc", "tests"};
	for (unsigned i = 0; i < ARRAY_LEN(paths); i++) {
		CHECK(open_in(paths[i], runtime, RECORDING_START_BYTES, &why) && !recording.is_private);
		CHECK(strncmp(recording.path, memleak, strlen(memleak)) == 0 && recording.path[strlen(memleak)] == '/');
		CHECK(recording.asked_why != NULL);
	}
	CHECK(chmod(unfit, 0700) == 0);
	CHECK(open_in(unfit, runtime, RECORDING_START_BYTES, &why) && !recording.asked_why);
	CHECK(strncmp(recording.path, unfit, strlen(unfit)) == 0);
	remove_directory(memleak);
	remove_directory(runtime);
	remove_directory(unfit);
	remove_directory(base);
}

int main(void)
{
	open_private(1U << 20);
	test_take();
	test_takes_never_overlap();
	test_segment_is_added_once();
	test_no_room_for_a_segment();
	void (*const in_children[])(const char *) = {test_growth, reopened_often, interrupted_often, small_file_limit, small_address_space, read_only_directory};
	for (unsigned i = 0; i < ARRAY_LEN(in_children); i++) {
		const char *directory = temporary_directory();
		in_child(in_children[i], directory);
		remove_directory(directory);
	}
	const char *directory = temporary_directory();
	test_header(directory);
	remove_directory(directory);
	test_unfit_directories();
	return harness_end();
}
