// objects.c -- the loader's list of objects, read under its lock
//
// Context:   cold.
// Invariant: no fork while a thread of ours has the loader's lock, and nobody takes it during a fork but who forks.
// Why:       a child forked meanwhile finds the loader's lock taken by a thread that it does not have. It would hang in its
//            first dlopen(), which may be long after, and without us it would not.
//            Who has the lock gives it back soon, and a fork waits for that. Who waits for it may wait for the very
//            thread that forks, or hold what another handler of the program's wants: such waits end after 50 ms, the
//            walk is put off, and if the lock comes during a fork after all it is given back at once.
// Proof:     tests/native/test_objects.c, test_slots.c; tests/models/forkgate.pml
#include "objects.h"

#include "atomics.h"
#include "elfimage.h"
#include "sys.h"

#include <time.h>

#define WAIT_NS 100000
#define WAITS 500
#define WAITS_HELD 100000 // ten seconds: a thread may have been preempted with the lock
#define TRIES_ANYWAY 40

// With the pid in the upper half: what a child finds here of its parent means nothing.
static uint64_t entered; // how many threads have or want the lock
static uint64_t holding; // how many have it
static uint64_t forking; // how many fork
static uint64_t forker;  // tid of the last of them, until it has forked

static uint64_t of_this_process(void) { return (uint64_t)sys_getpid() << 32; }

static uint32_t value_of(const uint64_t *word)
{
	uint64_t seen = load_seq_cst(word);
	return seen >> 32 == of_this_process() >> 32 ? (uint32_t)seen : 0;
}

// Sequentially consistent, as value_of(): of one who counts itself here and looks there, and one who does the reverse,
// one sees the other.
static void add_one(uint64_t *word)
{
	uint64_t none = of_this_process(), seen = load_relaxed(word);
	while (!cas_seq_cst(word, &seen, (seen >> 32 == none >> 32 ? seen : none) + 1))
		;
}

static void take_one(uint64_t *word) { sub_release(word, 1); } // pairs with value_of()

static void pause_briefly(void)
{
	static const struct timespec pause = {.tv_nsec = WAIT_NS};
	sys_call(SYS_nanosleep, &pause, 0, 0);
}

static bool this_thread_forks(void) { return value_of(&forker) == (uint32_t)sys_gettid(); }

// Who forks is one of those counted; to let it pass for that would be to forget the others.
static bool another_forks(void)
{
	uint32_t forks = value_of(&forking);
	return forks && forks > this_thread_forks();
}

// ---- walks ---------------------------------------------------------------------------------------

struct walk {
	int (*see)(struct dl_phdr_info *, size_t, void *);
	void *context;
	bool anyway; // during a fork, too
	bool holds, put_off;
};

static int see_listed(struct dl_phdr_info *info, size_t bytes, void *context)
{
	struct walk *walk = context;
	if (!walk->holds) {
		walk->holds = true;
		add_one(&holding);
		walk->put_off = !walk->anyway && another_forks();
	}
	return walk->put_off ? 1 : walk->see(info, bytes, walk->context);
}

static bool walk_now(struct walk *walk)
{
	dl_iterate_phdr(see_listed, walk);
	if (walk->holds)
		take_one(&holding);
	return !walk->put_off;
}

static bool enter(bool anyway)
{
	for (int i = 0; i < WAITS; i++) {
		add_one(&entered);
		if (!another_forks())
			return true;
		take_one(&entered);
		if (this_thread_forks())
			break; // two that fork would wait for each other
		pause_briefly();
	}
	if (anyway)
		add_one(&entered);
	return anyway;
}

static bool walk_between_forks(struct walk walk)
{
	if (!enter(walk.anyway))
		return false;
	bool walked = walk_now(&walk);
	take_one(&entered);
	return walked;
}

bool objects_try_each(int (*see)(struct dl_phdr_info *, size_t, void *), void *context)
{
	return walk_between_forks((struct walk){see, context, false, false, false});
}

void objects_each(int (*see)(struct dl_phdr_info *, size_t, void *), void *context)
{
	for (int i = 0; i < TRIES_ANYWAY; i++)
		if (objects_try_each(see, context))
			return;
	walk_between_forks((struct walk){see, context, true, false, false});
}

static int see_none(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)info, (void)bytes, (void)context;
	return 1;
}

// Not counted as entered: if the lock is lost, forks would wait for that thread again and again.
void objects_wait_for_lock(void)
{
	while (!walk_now(&(struct walk){see_none, NULL, false, false, false}))
		pause_briefly();
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
	store_seq_cst(&forker, of_this_process() | (uint32_t)sys_gettid());
	add_one(&forking);
	for (int i = 0; i < WAITS && value_of(&entered); i++)
		pause_briefly();
	for (int i = 0; i < WAITS_HELD && value_of(&holding); i++)
		pause_briefly();
}

void objects_after_fork(void)
{
	uint64_t self = of_this_process() | (uint32_t)sys_gettid();
	cas_seq_cst(&forker, &self, of_this_process()); // unless another has begun meanwhile
	take_one(&forking);
}
