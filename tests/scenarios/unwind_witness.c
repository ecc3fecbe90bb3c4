// unwind_witness.c -- a preload library that unwinds sampled allocations twice and compares
//
// Built from the core's unwinder and libgcc. One malloc-family call in WITNESS_EVERY (default 7) is
// unwound by unwind() and by libgcc's _Unwind_Backtrace(); at exit one line is written to the file
// WITNESS_REPORT: stacks, frames, mismatches, truncated (ours ended early), skipped (libgcc's did not reach the caller, so
// that there is nothing to compare). The first mismatches are written out.
#include "elfimage.h"
#include "memleak_format.h"
#include "modules.h"
#include "unwind.h"
#include "unwind_thread.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// libgcc's <unwind.h>, which our header of that name hides.
struct _Unwind_Context;
extern int _Unwind_Backtrace(int (*)(struct _Unwind_Context *, void *), void *);
extern uintptr_t _Unwind_GetIP(struct _Unwind_Context *);

static void *(*real_malloc)(size_t), *(*real_calloc)(size_t, size_t), *(*real_realloc)(void *, size_t);
static void *(*real_dlsym)(void *, const char *);
static bool ready;
static unsigned every = 7;
static unsigned long calls, stacks, frames_seen, mismatches, truncated, skipped;
static _Thread_local bool busy __attribute__((tls_model("initial-exec")));

struct list {
	uintptr_t caller;
	unsigned n;
	bool begun;
	uintptr_t pc[MAX_FRAMES];
};

static int collect(struct _Unwind_Context *context, void *to)
{
	struct list *list = to;
	uintptr_t pc = _Unwind_GetIP(context);
	list->begun |= pc == list->caller;
	if (!list->begun)
		return 0;
	if (pc == 0 || list->n == MAX_FRAMES)
		return 5; // end of stack
	list->pc[list->n++] = pc;
	return 0;
}

static void report_mismatch(const uint64_t *ours, unsigned n, enum unwind_end end, const struct list *theirs)
{
	char line[200];
	int fd = open(getenv("WITNESS_REPORT"), O_WRONLY | O_APPEND | O_CREAT, 0600);
	for (unsigned i = 0; i < n || i < theirs->n; i++) {
		unsigned id = i < n ? (unsigned)(ours[i] >> MLF_FRAME_MODULE_SHIFT) : 0;
		int length = snprintf(line, sizeof(line), "  %u %s+0x%lx / %lx (end %d)\n", i, id ? modules_get(id)->path : "?",
				      i < n ? (unsigned long)(ours[i] & MLF_FRAME_VADDR_MASK) : 0UL,
				      i < theirs->n ? (unsigned long)(theirs->pc[i] - (id ? modules_base(id) : 0)) : 0UL, (int)end);
		if (write(fd, line, (size_t)length) < 0)
			break;
	}
	close(fd);
}

static void compare(const struct registers *caller)
{
	if (busy || !ready || __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) % every)
		return;
	busy = true;
	uint64_t ours[MAX_FRAMES], hash;
	enum unwind_end end;
	unsigned n = unwind(caller, unwind_thread_bounds(caller->sp), ours, MAX_FRAMES, &hash, &end);
	struct list theirs = {.caller = caller->pc};
	_Unwind_Backtrace(collect, &theirs);
	if (!theirs.begun) { // libgcc did not get as far as our caller
		__atomic_fetch_add(&skipped, 1, __ATOMIC_RELAXED);
	} else {
		bool whole = end == UNWIND_COMPLETE || end == UNWIND_DEPTH;
		while (!whole && n && !(ours[n - 1] >> MLF_FRAME_MODULE_SHIFT))
			n--; // the frame where it gave up, marked as of no known object
		// What is marked as cut must still begin right, and be more than nothing.
		bool equal = whole ? n == theirs.n : n >= 1 && n <= theirs.n;
		for (unsigned i = 0; i < n && equal; i++) {
			unsigned id = (unsigned)(ours[i] >> MLF_FRAME_MODULE_SHIFT);
			equal = id && (ours[i] & MLF_FRAME_VADDR_MASK) + modules_base(id) == theirs.pc[i];
		}
		__atomic_fetch_add(&stacks, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&frames_seen, n, __ATOMIC_RELAXED);
		__atomic_fetch_add(&truncated, !whole, __ATOMIC_RELAXED);
		if (!equal && __atomic_fetch_add(&mismatches, 1, __ATOMIC_RELAXED) < 5)
			report_mismatch(ours, n, end, &theirs);
	}
	busy = false;
}

EXPORT void *malloc(size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	if (!real_malloc)
		real_malloc = (void *(*)(size_t))elf_next_symbol((uintptr_t)&compare, "malloc");
	compare(&caller);
	return real_malloc(bytes);
}

EXPORT void *calloc(size_t n, size_t each)
{
	struct registers caller = REGISTERS_OF_CALLER();
	if (!real_calloc)
		real_calloc = (void *(*)(size_t, size_t))elf_next_symbol((uintptr_t)&compare, "calloc");
	compare(&caller);
	return real_calloc(n, each);
}

EXPORT void *realloc(void *p, size_t bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	if (!real_realloc)
		real_realloc = (void *(*)(void *, size_t))elf_next_symbol((uintptr_t)&compare, "realloc");
	compare(&caller);
	return real_realloc(p, bytes);
}

// As the core does at this moment: what was loaded is about to be used. A tail jump, so that the caller stays the caller.
EXPORT void *dlsym(void *handle, const char *name)
{
	if (!real_dlsym)
		real_dlsym = (void *(*)(void *, const char *))elf_next_symbol((uintptr_t)&compare, "dlsym");
	if (ready)
		modules_refresh();
	return real_dlsym(handle, name);
}

static void __attribute__((constructor)) begin(void)
{
	if (getenv("WITNESS_EVERY"))
		every = (unsigned)atoi(getenv("WITNESS_EVERY"));
	modules_init(getenv("WITNESS_SNAPSHOT") != NULL);
	unwind_init();
	struct list warm = {.caller = 0};
	busy = true;
	_Unwind_Backtrace(collect, &warm); // its first call allocates
	busy = false;
	ready = getenv("WITNESS_REPORT") != NULL;
}

static void __attribute__((destructor)) end(void)
{
	if (!ready)
		return;
	ready = false;
	char line[200];
	int fd = open(getenv("WITNESS_REPORT"), O_WRONLY | O_APPEND | O_CREAT, 0600);
	int length = snprintf(line, sizeof(line), "stacks %lu frames %lu mismatches %lu truncated %lu skipped %lu\n", stacks,
			      frames_seen, mismatches, truncated, skipped);
	if (write(fd, line, (size_t)length) < 0)
		return;
	close(fd);
}
