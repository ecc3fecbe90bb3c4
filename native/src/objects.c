// objects.c -- the loader's list of objects, read under its lock
//
// Context:   cold.
// Invariant: no fork while a thread is in here, and nobody comes in here during a fork but who forks.
// Why:       a child forked meanwhile finds the loader's lock taken by a thread that it does not have. It would hang in its
//            first dlopen(), which may be long after, and without us it would not. Waits end after 50 ms: a handler of
//            the program's may wait for a lock that is held by who waits here.
// Proof:     tests/native/test_objects.c
#include "objects.h"

#include "atomics.h"
#include "elfimage.h"
#include "sys.h"

#include <time.h>

#define WAIT_NS 100000
#define WAITS 500

// With the pid in the upper half: what a child finds here of its parent means nothing.
static uint64_t inside; // how many threads
static uint64_t forking; // tid of the thread that forks

static uint64_t of_this_process(void) { return (uint64_t)sys_getpid() << 32; }

static bool is_set(const uint64_t *word)
{
	uint64_t seen = load_seq_cst(word);
	return seen >> 32 == of_this_process() >> 32 && (uint32_t)seen;
}

static void pause_briefly(void)
{
	static const struct timespec pause = {.tv_nsec = WAIT_NS};
	sys_call(SYS_nanosleep, &pause, 0, 0);
}

// ---- walks ---------------------------------------------------------------------------------------

// Sequentially consistent, and so is objects_before_fork(): one of the two sees the other.
static void enter(void)
{
	uint64_t none = of_this_process(), seen = load_relaxed(&inside);
	while (!cas_seq_cst(&inside, &seen, (seen >> 32 == none >> 32 ? seen : none) + 1))
		;
}

static void leave(void) { sub_release(&inside, 1); } // pairs with is_set()

int objects_each(int (*see)(struct dl_phdr_info *, size_t, void *), void *context)
{
	enter();
	for (int i = 0; i < WAITS && is_set(&forking) && (uint32_t)load_relaxed(&forking) != (uint32_t)sys_gettid(); i++) {
		leave();
		pause_briefly();
		enter();
	}
	int result = dl_iterate_phdr(see, context);
	leave();
	return result;
}

struct search {
	const char *name;
	uintptr_t found;
};

static int search_listed(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)info, (void)bytes;
	struct search *search = context;
	search->found = elf_global_symbol(search->name);
	return 1;
}

uintptr_t objects_symbol(const char *name)
{
	struct search search = {name, 0};
	objects_each(search_listed, &search);
	return search.found;
}

// ---- forks ---------------------------------------------------------------------------------------

void objects_before_fork(void)
{
	uint64_t self = of_this_process() | (uint32_t)sys_gettid();
	int i = 0;
	while (is_set(&forking) && i++ < WAITS) // another thread: one after the other
		pause_briefly();
	store_seq_cst(&forking, self);
	for (i = 0; i < WAITS && is_set(&inside); i++)
		pause_briefly();
}

void objects_after_fork(void) { store_release(&forking, 0); }
