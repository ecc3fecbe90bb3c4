// copies.c -- whole copies of the recording in other directories: MEMLEAK_KEEP_DIR, and a MEMLEAK_DIR that is not on tmpfs
//
// Context:   cold: the chores thread, what a program without threads has instead, stop and exit.
// Invariant: a copy appears under the recording's own name whole or not at all. What is written first refers only to
//            what is written later: the room from its beginning on until it no longer grows, header and directory last.
// Why:       only tmpfs is mapped: a page that a disk cannot give would be SIGBUS in a hook. A volume outlives the
//            container whose memory held the recording.
// Proof:     tests/integration/test_copies.py
#include "copies.h"

#include "atomics.h"
#include "clock.h"
#include "place.h"
#include "recording.h"
#include "siblings.h"
#include "stats.h"
#include "sys.h"

#define EVERY_CS 6000U
#define PASSES 4U // over what was added meanwhile

static uint32_t due_cs;  // 0: at once
static uint32_t copying; // 1: some thread is at it

void copies_begin(void)
{
	const char *why;
	store_relaxed(&due_cs, 0);
	store_relaxed(&copying, 0); // a forked child may have been cut off from the thread that was at it
	for (unsigned i = 0; i < ARRAY_LEN(recording.copies_directory); i++) {
		int fd = recording.copies_directory[i] ? place_open_directory(recording.copies_directory[i], &why) : -1;
		if (fd < 0)
			continue;
		siblings_prune_copies(fd);
		sys_close(fd);
	}
}

static bool write_all(int fd, const unsigned char *from, uint64_t bytes, uint64_t offset)
{
	while (bytes) {
		long n = sys_pwrite(fd, from, bytes, offset);
		if (n <= 0 && n != -4) // EINTR
			return false;
		if (n > 0)
			from += n, offset += (uint64_t)n, bytes -= (uint64_t)n;
	}
	return true;
}

static bool write_copy(int fd)
{
	static unsigned char head[MLF_ROOM_OFFSET]; // one thread at a time
	uint64_t done = MLF_ROOM_OFFSET;
	for (unsigned pass = 0; pass < PASSES; pass++) {
		uint64_t used = load_acquire(&recording.header->room_used);
		if (used > sys_file_size_limit() || !write_all(fd, recording.base + done, used - done, done))
			return false;
		if (used == done)
			break;
		done = used;
	}
	__builtin_memcpy(head, recording.base, sizeof(head));
	((struct mlf_header *)(void *)head)->room_used = done;
	return write_all(fd, head, sizeof(head), 0);
}

static bool copy_into(int directory_fd)
{
	const struct mlf_header *header = recording.header;
	if (!siblings_copy_fits(directory_fd, load_relaxed(&header->room_used)))
		return false;
	char unfinished[64]; // the same name behind a point: nobody lists it
	struct text t = text_in(unfinished, sizeof(unfinished));
	text_char(&t, '.');
	place_name(&t, header->pid, header->start_ticks, header->recording_id);
	int fd = (int)sys_openat(directory_fd, unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
	if (fd < 0)
		return false;
	bool written = write_copy(fd);
	sys_close(fd);
	if (written && sys_renameat(directory_fd, unfinished, unfinished + 1) == 0)
		return true;
	sys_unlinkat(directory_fd, unfinished);
	return false;
}

static bool wanted(void) { return recording.copies_directory[0] || recording.copies_directory[1]; }

static void copy(void)
{
	const char *why;
	if (!wanted() || exchange_acq_rel(&copying, 1))
		return;
	store_relaxed(&due_cs, clock_now_cs() + EVERY_CS); // before: who hurries us meanwhile wants another
	for (unsigned i = 0; i < ARRAY_LEN(recording.copies_directory); i++) {
		if (!recording.copies_directory[i])
			continue;
		int fd = place_open_directory(recording.copies_directory[i], &why);
		if (fd < 0 || !copy_into(fd))
			count(copies_failed);
		if (fd >= 0)
			sys_close(fd);
	}
	store_release(&copying, 0); // pairs with the exchange above: head is another's
}

void copies_hurry(void) { store_relaxed(&due_cs, 0); }

void copies_write_when_due(void)
{
	if (wanted() && clock_now_cs() >= load_relaxed(&due_cs))
		copy();
}

void copies_write_last(void) { copy(); }
