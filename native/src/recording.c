// recording.c -- the mapped file: opened, backed as it fills, closed
//
// Context:   cold, one caller at a time, and may run inside malloc (forked child).
// Invariant: what is said to be backed in header->room_backed has memory behind it before that is said. What was mapped for a
//            recording stays mapped for ever, to the next one: a thread that slept with a pointer to the header may follow it.
// Why:       what cannot be had is found out here: behind it, in sampled code, a page that is missing would be a SIGBUS.
// Proof:     tests/native/test_recording.c; tests/integration/test_kill.py, test_room.py; tests/models/index.pml
#include "recording.h"

#include "clock.h"
#include "place.h"
#include "sampler.h"
#include "siblings.h"
#include "stats.h"
#include "sys.h"
#include "text.h"

#include <sys/utsname.h>

#define LEAST_BYTES (512U << 10)
#define MAPPED_AHEAD_BYTES (256U << 10)
#define SLACK_BYTES (256U << 10)
#define BACKED_AT_ONCE_BYTES (128U << 10)

static uint32_t home_bytes; // mapped at recording.base

// ---- backing -----------------------------------------------------------------------------------

static uint64_t mapped; // up to here the page table has what is backed: no fault there, not even a minor one

// Brings into the page table what is backed, as far as it may be used soon. False: the kernel is older than that.
static bool map_ahead(unsigned char *base, uint64_t used, uint64_t backed)
{
	uint64_t wanted = round_up(used + MAPPED_AHEAD_BYTES, PAGE_BYTES);
	if (wanted > backed)
		wanted = backed;
	if (wanted <= mapped)
		return true;
	long result = sys_madvise(base + mapped, wanted - mapped, MADV_POPULATE_WRITE);
	if (result == 0)
		mapped = wanted;
	return result != -22; // EINVAL: older than Linux 5.14
}

// Backs a step of the room and takes it out of the page table again, piece by piece: what is not used is no resident memory of
// the program's. False: there is no more; what was backed of the step is the next attempt's.
static bool back_step(unsigned char *step)
{
	for (uint64_t at = 0; at < RECORDING_STEP_BYTES; at += BACKED_AT_ONCE_BYTES) {
		if (sys_madvise(step + at, BACKED_AT_ONCE_BYTES, MADV_POPULATE_WRITE) != 0)
			return false;
		sys_madvise(step + at, BACKED_AT_ONCE_BYTES, MADV_DONTNEED); // the page stays the file's; of locked memory: refused
	}
	return true;
}

// What one arena of Python's small blocks may bring, the shortest time between two cold moments: 1 MiB of 24 bytes each, at the
// gaps that are in force.
static uint64_t burst_bytes(const struct mlf_header *header)
{
	enum { BLOCKS = 43690, LIVE_BYTES = 60 }; // a bucket is full at four fifths
	uint64_t gaps = load_relaxed(&header->python_effective), twice_mean = (gaps & 0xFFFF) + (gaps >> 16 & 0xFFFF);
	return BLOCKS * LIVE_BYTES * 2 / (twice_mean ? twice_mean : 2);
}

// Free room that there should be. Tables double: the largest wants twice its size next. Once it has doubled, samples come fast, and it may
// want as much as all that is used so far.
static uint64_t room_to_have(const struct mlf_header *header, uint64_t used)
{
	const struct mlf_segment *segments = (const void *)(recording.base + MLF_DIRECTORY_OFFSET), *largest = NULL;
	uint32_t count = load_relaxed(&header->segment_count);
	for (uint32_t i = 0; i < count && i < MLF_DIRECTORY_ENTRIES; i++)
		if (load_acquire(&segments[i].kind) && (!largest || segments[i].bytes > largest->bytes)) // pairs with recording_add_segment()
			largest = &segments[i];
	uint64_t next = largest && largest->order == 0 ? 2 * largest->bytes : used;
	return next + burst_bytes(header) + SLACK_BYTES;
}

static uint8_t growing; // 1: some thread is in grow()
static uint64_t allowed; // the room may be backed up to here, when the place was last looked at

static void look_at_place(const struct mlf_header *header, uint64_t backed)
{
	store_relaxed(&allowed, backed + siblings_may_grow(recording.path, backed, header->file_bytes - backed));
}

static bool grow(bool may_look)
{
	struct mlf_header *header = recording.header;
	if (!recording.base || recording.is_private || exchange_acq_rel(&growing, 1))
		return false;
	uint64_t backed = header->room_backed, used = load_relaxed(&header->room_used);
	uint64_t step = RECORDING_STEP_BYTES;
	bool grown = false;
	map_ahead(recording.base, used, backed);
	if (backed + step <= header->file_bytes && used + room_to_have(header, used) > backed) {
		if (may_look)
			look_at_place(header, backed);
		grown = backed + step <= load_relaxed(&allowed) && back_step(recording.base + backed);
		if (grown) {
			store_release(&header->room_backed, backed + step); // pairs with recording_take()
			count(room_grown);
		} else if (may_look) {
			count(room_refused);
		}
	}
	store_release(&growing, 0);
	return grown;
}

bool recording_grow(void) { return grow(true); }

bool recording_grow_as_allowed(void) { return grow(false); }

// ---- opening -----------------------------------------------------------------------------------

static void fill_identity(struct mlf_header *header, const struct recording_options *options, uint64_t start_ticks)
{
	static char text[128];
	static struct utsname host;

	header->version = MLF_VERSION;
	header->header_bytes = MLF_HEADER_BYTES;
	header->run_id = options->run_id;
	header->pid = (uint32_t)sys_getpid();
	header->parent_pid = (uint32_t)sys_getppid();
	header->start_ticks = start_ticks;
	header->parent_recording_id = options->parent_recording_id;
	header->pid_namespace = siblings_pid_namespace();
	header->uid = (uint32_t)sys_getuid();
	header->clock_ticks_per_s = 100; // USER_HZ, the same on every Linux we run on
	header->start_realtime_ns = clock_realtime_ns();
	header->start_monotonic_ns = clock_monotonic_precise_ns();

	if (sys_read_file("/proc/sys/kernel/random/boot_id", text, sizeof(text)) > 0) {
		const char *s = text;
		for (unsigned i = 0; i < sizeof(header->boot_id);) {
			uint64_t byte;
			if (*s == '-')
				s++;
			else if (text_parse_hex(&s, 2, &byte))
				header->boot_id[i++] = (uint8_t)byte;
			else
				break;
		}
	}
	if (sys_call(SYS_uname, &host, 0, 0) == 0) {
		struct text t = text_in(header->host_name, sizeof(header->host_name));
		text_add(&t, host.nodename);
	}
	if (sys_read_file("/proc/self/comm", text, sizeof(text)) > 0) {
		struct text t = text_in(header->command, sizeof(header->command));
		for (const char *s = text; *s && *s != '\n'; s++)
			text_char(&t, *s);
	}
	header->core_build_id_bytes = options->build_id_bytes <= 20 ? options->build_id_bytes : 0;
	for (unsigned i = 0; i < header->core_build_id_bytes; i++)
		header->core_build_id[i] = options->build_id[i];

	// Relaxed: a thread that slept with a pointer to the last recording's words may be looking at these.
	uint64_t python_interval = options->python_interval ? options->python_interval : SAMPLER_PYTHON;
	header->initial = options->interval;
	store_relaxed(&header->requested, options->interval);
	store_relaxed(&header->effective, options->interval);
	store_relaxed(&header->python_requested, python_interval);
	store_relaxed(&header->python_effective, python_interval);
	store_relaxed(&header->requested_sample_bytes, options->sample_bytes);
	store_relaxed(&header->effective_sample_bytes, options->sample_bytes);
	header->door = options->door;
	header->native_state = options->native_off ? MLF_NATIVE_OFF : MLF_NATIVE_SAMPLED;
	header->max_frames = options->max_frames ? options->max_frames : MAX_FRAMES;
	header->history_unit_cs = MLF_HISTORY_UNIT_CS;
	header->history_levels = MLF_HISTORY_LEVELS;
	header->history_slots = MLF_HISTORY_SLOTS;
	header->history_level_shift = MLF_HISTORY_LEVEL_SHIFT;
	header->size_always_bytes = SAMPLER_SIZE_ALWAYS;
	header->mmap_always_bytes = options->mmap_always_bytes;
	store_relaxed(&header->budget_ppm, options->budget_ppm);
	store_relaxed(&header->widened_x1024, 1024);
}

// Not MADV_POPULATE_WRITE: that clears and maps every page at once, 0.54 ms a MiB where this takes 0.23, and most
// programs never use what they start with.
static bool back(int fd, uint32_t bytes)
{
	enum { INTERRUPTIONS = 100 }; // a profiler's timer; in steps, so that it cannot undo all each time
	unsigned interrupted = 0;
	for (uint32_t at = 0, step; at < bytes; at += step) {
		long result;
		step = bytes - at < RECORDING_STEP_BYTES ? bytes - at : RECORDING_STEP_BYTES;
		do
			result = sys_fallocate(fd, 0, at, step);
		while (result == -4 && ++interrupted < INTERRUPTIONS); // EINTR
		if (result < 0) { // others may need what there is
			sys_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes);
			return false;
		}
	}
	return true;
}

// Maps the file and backs its first *start bytes. NULL and *why if that cannot be.
static unsigned char *map_file(const struct place *place, uint32_t *cap, uint32_t *start, const char **why)
{
	int fd = (int)sys_openat(place->directory_fd, place->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		*why = "the directory takes no new file";
		return NULL;
	}
	unsigned char *base = NULL;
	if (sys_file_size_limit() < *cap)
		*cap = (uint32_t)round_down(sys_file_size_limit(), PAGE_BYTES);
	if (*cap < LEAST_BYTES || sys_ftruncate(fd, *cap) < 0) {
		*why = "the file size limit is too small";
		goto fail;
	}
	for (; !base && *cap >= LEAST_BYTES; *cap /= 2)
		if ((base = sys_mmap(*cap, PROT_READ | PROT_WRITE, MAP_SHARED, fd)))
			break;
	if (!base) {
		*why = "there is no address space for it";
		goto fail;
	}
	if (*start > *cap)
		*start = *cap;
	for (;; *start /= 2) {
		if (*start >= LEAST_BYTES && siblings_make_room(place->directory_fd, *start) && back(fd, *start))
			break;
		if (*start <= LEAST_BYTES) {
			*why = "the file system has no room (a recording uses at most 1/8 of it)";
			sys_munmap(base, *cap);
			goto fail;
		}
	}
	mapped = 0;
	if (!map_ahead(base, 0, *start))
		*cap = *start; // for good: older than Linux 5.14, which could only grow by the descriptor
	sys_close(fd);
	return base;
fail:
	sys_close(fd);
	sys_unlinkat(place->directory_fd, place->name);
	return NULL;
}

// Puts a new mapping where the recordings of this process are.
static unsigned char *bring_home(unsigned char *base, uint32_t cap, const char **why)
{
	if (cap > home_bytes) // the first one, or larger than any before, whose place stays mapped too
		return base;
	if (sys_move_mapping(base, cap, recording.base))
		return recording.base;
	sys_munmap(base, cap);
	*why = "the kernel refused to replace the mapping of the last recording";
	return NULL;
}

static void add_first_segments(uint32_t start)
{
	uint32_t scale = start >= RECORDING_START_BYTES ? 4 : 1;
	recording_add_segment(MLF_KIND_MODULES, 0, 64, sizeof(struct mlf_module));
	recording_add_segment(MLF_KIND_THREADS, 0, 64, sizeof(struct mlf_thread));
	recording_add_segment(MLF_KIND_STACK_INDEX, 0, 1024 * scale, sizeof(uint64_t));
	recording_add_segment(MLF_KIND_ROW_INDEX, 0, 1024 * scale, sizeof(uint64_t));
	recording_add_segment(MLF_KIND_LIVE, 0, 2048 * scale, sizeof(uint64_t) + sizeof(struct mlf_live));
	recording_add_segment(MLF_KIND_MARKS, 0, MLF_MARKS, sizeof(struct mlf_mark)); // near a limit nothing can be had
	recording_add_segment(MLF_KIND_GAUGES, 0, MLF_GAUGES_EACH, sizeof(struct mlf_gauge)); // for readers, who can add nothing
	recording_add_segment(MLF_KIND_LEDGER, 0, MLF_LEDGER_LEVELS * MLF_LEDGER_SLOTS, sizeof(struct mlf_ledger));
	recording_add_segment(MLF_KIND_PINS, 0, 1, sizeof(struct mlf_pins));
}

// Copies go to the directory to keep them in, unless the recording itself is in there.
static void note_keep_directory(const char *directory, int recording_directory_fd)
{
	recording.keep_why = NULL;
	recording.copies_directory[1] = NULL;
	if (!directory || !*directory)
		return;
	int fd = place_open_directory(directory, &recording.keep_why);
	if (fd < 0)
		return;
	if (!place_is_same(fd, recording_directory_fd))
		recording.copies_directory[1] = directory;
	sys_close(fd);
}

static bool is_same_text(const char *a, const char *b) { return a && b && text_equal(a, b); }

bool recording_open(const struct recording_options *options, const char **why)
{
	static struct place place;
	uint64_t random[2] = {0, 0};
	if (sys_getrandom(random, sizeof(random)) != sizeof(random))
		random[0] = clock_monotonic_precise_ns() * MLF_CHECK_1, random[1] = random[0] ^ (uintptr_t)&place;
	uint64_t start_ticks = siblings_process_start_ticks((uint32_t)sys_getpid());
	uint32_t cap = options->cap_bytes, start = options->start_bytes;
	if (start > cap)
		start = cap;
	unsigned char *base = NULL;
	*why = NULL;
	recording.asked_why = NULL;

	bool chosen = place_choose(options->directory, options->runtime_directory, random[0], start_ticks, &place);
	note_keep_directory(options->keep_directory, place.directory_fd);
	if (chosen) {
		siblings_prune(place.directory_fd);
		start = (uint32_t)siblings_fair_start(place.directory_fd, start, LEAST_BYTES);
		base = map_file(&place, &cap, &start, why);
		sys_close(place.directory_fd);
	} else {
		*why = place.why;
	}
	recording.asked_why = place.asked_why;
	bool is_kept = is_same_text(options->directory, recording.copies_directory[1]);
	recording.copies_directory[0] = place.takes_copies && !is_kept ? options->directory : NULL;
	bool is_private = !base;
	if (is_private) {
		cap = start;
		base = sys_private_pages(cap);
		if (!base)
			return false;
		place.path[0] = 0;
	}
	sys_madvise(base, cap, MADV_DONTDUMP);
	if (!(base = bring_home(base, cap, why))) {
		if (!is_private)
			sys_unlinkat(AT_FDCWD, place.path);
		return false;
	}

	struct mlf_header *header = (struct mlf_header *)(void *)base;
	header->file_bytes = cap;
	header->room_used = MLF_ROOM_OFFSET;
	header->room_backed = start;
	header->recording_id = random[0];
	fill_identity(header, options, start_ticks);
	clock_set_start(header->start_monotonic_ns);

	store_relaxed(&growing, 0); // a forked child may have been cut off from the thread that was at it
	recording_room_begin(header);
	if (cap > home_bytes)
		home_bytes = cap; // last: in a child forked meanwhile there is no more than this
	recording.secret = random[1] & MLF_LIVE_KEY_ADDRESS_MASK;
	recording.number++;
	recording.is_private = is_private;
	recording.private_why = *why ? *why : "failed";
	struct text t = text_in(recording.path, sizeof(recording.path));
	text_add(&t, place.path);
	add_first_segments(start);
	if (!is_private)
		look_at_place(header, start);

	stats_attach(header->counters);
	store_relaxed(&header->state, MLF_STATE_RECORDING);
	store_release(&header->magic, MLF_MAGIC); // pairs with readers of the file: all above is there
	return true;
}

void recording_close(enum mlf_state state)
{
	struct mlf_header *header = recording.header;
	if (!header)
		return;
	store_relaxed(&header->stopped_at_cs, clock_now_cs());
	store_release(&header->state, state);
}
