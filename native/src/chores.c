// chores.c -- when cold work runs
//
// Context:   cold. The chores thread sleeps a second at a time and does what chores_do() does.
// Invariant: there is at most one chores thread, only while the program has threads of its own, with all
//            signals blocked; its own allocations are never sampled.
// Why:       a single-threaded program must stay single-threaded: a native thread makes os.fork()
//            warn in Python 3.12+, unshare(CLONE_NEWUSER) fail and stdio take locks.
// Proof:     tests/integration/test_preload.py (single-threaded stays so)
#include "chores.h"

#include "allocator.h"
#include "atomics.h"
#include "heaps.h"
#include "hook_pymem.h"
#include "loader.h"
#include "modules.h"
#include "pycode.h"
#include "pyframes.h"
#include "pygil.h"
#include "recording.h"
#include "sampler.h"
#include "slots.h"
#include "sys.h"
#include "tracer_child.h"
#include "tracer_gate.h"
#include "tracer_upkeep.h"
#include "wrap_pymem.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <time.h>

#define STACK_BYTES (128U << 10)

static struct chores_rules rules;
static uint32_t owner_pid; // the process whose chores thread exists
static uint32_t asked_to_leave; // futex
static uint32_t published; // number of the recording that holds what slots.h knows

// ---- the work ------------------------------------------------------------------------------------

// Sampled: a forked child does it when it opens its recording.
static void publish_coverage(void)
{
	store_relaxed(&published, recording.number); // relaxed: two threads at it write the same
	for (unsigned id = 1; id < modules_count(); id++) {
		struct catalog_coverage coverage;
		if (slots_coverage(id, &coverage))
			tracer_note_coverage(id, &coverage);
	}
}

// True: some object was looked at.
static bool look_at_objects(enum slots_how how)
{
	static const struct timespec pause = {.tv_nsec = 1000000};
	struct slots_result result = slots_scan(how);
	// Another thread is at it with less in mind; it does not take long.
	for (int tries = 0; how == SLOTS_ALL && !result.looked && tries < 200; tries++) {
		sys_call(SYS_nanosleep, &pause, 0, 0);
		result = slots_scan(how);
	}
	if (result.displaced && !rules.preloaded)
		tracer_hooks_were_displaced();
	if (result.looked || load_relaxed(&published) != recording.number)
		publish_coverage();
	return result.looked;
}

static uint32_t python_asked; // 1: Python will call us
static bool beginning; // what went past hooks before the recording began is nothing it lacks

static void prepare_python(void)
{
	store_relaxed(&python_asked, 0);
	pygil_self_test();
	if (pyframes_state() != MLF_PYTHON_FRAMES)
		return;
	pygil_watch_end(false);
	enum wrap_pymem_found found = wrap_pymem(true);
	if (found == WRAP_PYMEM_WAS_GONE || (found == WRAP_PYMEM_CAME_LATE && rules.preloaded))
		tracer_python_was_displaced(!beginning);
}

static void prepare_python_thoroughly(void)
{
	pygil_watch_end(true);
	prepare_python();
}

// An extension module is being imported: then this thread has the GIL. Or Python called us, and let go of it.
static void look_at_python(bool may_take_gil)
{
	if (pyframes_attach() == MLF_PYTHON_FRAMES)
		pygil_call(may_take_gil, may_take_gil ? prepare_python_thoroughly : prepare_python);
	tracer_note_python();
}

// A tool that goes (tracemalloc.stop()) puts back what it found, and so takes away what came in front of it; an interpreter
// that is begun again forgets them (3.12 and later). With the GIL.
static void look_if_due(void)
{
	if (unlikely(wrap_pymem_is_due()) && tracer_is_recording())
		look_at_python(false);
}

static int look_as_asked(void *unused)
{
	(void)unused;
	store_relaxed(&python_asked, 0);
	look_if_due();
	return 0;
}

// From a thread that has nothing to do with Python. Once at a time: Python's queue is short.
static void ask_python_if_due(void)
{
	if (!wrap_pymem_is_due() || pyframes_attach() != MLF_PYTHON_FRAMES || exchange_acq_rel(&python_asked, 1))
		return;
	if (!wrap_pymem_ask(look_as_asked))
		store_relaxed(&python_asked, 0);
}

void chores_begin(struct chores_rules wanted)
{
	rules = wanted;
	pycode_when_code_dies(look_if_due);
	tracer_when_child_opens(publish_coverage);
	hook_pymem_when_arena_comes(tracer_make_room_in_allocator); // a program that only makes objects may pass no other cold place
	look_at_objects(SLOTS_ALL);
	if (wanted.preloaded && pyframes_attach() == MLF_PYTHON_FRAMES && !pygil_is_initialised())
		wrap_pymem(false); // the interpreter begins with our hooks
	beginning = true;
	look_at_python(!wanted.preloaded);
	beginning = false;
}

void chores_objects_may_have_come(const void *handle)
{
	if (loader_lock_may_be_lost())
		loader_note_handle(handle);
	if (tracer_is_recording()) {
		bool came = look_at_objects(SLOTS_IF_CHANGED);
		if (came || pyframes_state() != MLF_PYTHON_NONE) // an interpreter comes with an object; to look for it takes long
			look_at_python(false);
		if (came) // a program that loads is growing, and may have no other moment at which the recording can
			tracer_poll();
	} else if (tracer_state() == TRACER_FORKED) { // what a worker loads before its recording is open is used long after
		slots_scan(SLOTS_IF_CHANGED);
	}
}

void chores_do(bool thorough)
{
	if (tracer_state() == TRACER_FORKED)
		tracer_open_in_child();
	if (!tracer_is_recording())
		return;
	look_at_objects(thorough ? SLOTS_ALL : SLOTS_CHECK);
	look_at_python(thorough);
	ask_python_if_due();
	if (thorough || sampler_self.busy == SAMPLER_NOT_THE_PROGRAM) // asked for, or our thread: not inside malloc
		heaps_ask_if_due();
	tracer_poll();
}

// ---- the thread ----------------------------------------------------------------------------------

// The program's main thread is gone (pthread_exit) while others run. The kernel forgets a thread's list of
// robust mutexes when it ends; asking for that takes no descriptor, which the program might notice.
static bool main_thread_ended(void)
{
	void *head = &head;
	size_t length;
	return sys_call(SYS_get_robust_list, sys_getpid(), &head, &length) == 0 && !head;
}

// Nobody is left but the main thread, or what remains of it when it has ended, and this one.
static bool alone(void) { return sys_threads() == 2; }

static uint32_t cannot_sleep; // 1: it is refused; a thread of ours would turn for ever

static void sleep_until_asked(unsigned long ns)
{
	struct timespec time = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	long result = sys_call6(SYS_futex, (long)&asked_to_leave, FUTEX_WAIT_PRIVATE, 0, (long)&time, 0, 0);
	if (result == 0 || result == -EAGAIN || result == -EINTR || result == -ETIMEDOUT)
		return;
	result = sys_call(SYS_nanosleep, &time, 0, 0);
	if (result != 0 && result != -EINTR)
		store_relaxed(&cannot_sleep, 1);
}

// False: the program has no other threads any more, and is to be single-threaded again; if its last one has ended with
// pthread_exit(), it ends with ours, as without us. Or this thread cannot sleep.
static bool work_until_stopped(void)
{
	loader_wait_for_lock();
	while (tracer_is_recording()) {
		chores_do(false);
		sleep_until_asked(main_thread_ended() ? 20000000 : 1000000000);
		if (alone() || load_relaxed(&cannot_sleep))
			return false;
		store_relaxed(&asked_to_leave, 0);
	}
	return true;
}

static void *run(void *unused)
{
	(void)unused;
	sampler_self.busy = SAMPLER_NOT_THE_PROGRAM; // for ever
	uint32_t self = (uint32_t)sys_getpid(), nobody = 0;
	for (;;) {
		bool others = work_until_stopped();
		exchange_acq_rel(&owner_pid, 0);
		// A thread made, or tracing started again, just now may count on us.
		others = (others || !alone()) && !load_relaxed(&cannot_sleep);
		if (!others || !tracer_is_recording() || !cas_acq_rel(&owner_pid, &nobody, self))
			return NULL;
	}
}

void chores_leave_alone(void)
{
	static const struct timespec pause = {.tv_nsec = 50000};
	if (load_relaxed(&owner_pid) != (uint32_t)sys_getpid() || !alone())
		return; // there is none, or the program has other threads itself
	store_relaxed(&asked_to_leave, 1);
	sys_call6(SYS_futex, (long)&asked_to_leave, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
	for (int i = 0; i < 2000 && sys_threads() > 1; i++)
		sys_call(SYS_nanosleep, &pause, 0, 0);
}

static void set_signals(int how, const uint64_t *set, uint64_t *old)
{
	sys_call6(SYS_rt_sigprocmask, how, (long)set, (long)old, sizeof(*set), 0, 0);
}

static bool create_thread(size_t stack_bytes)
{
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (stack_bytes)
		pthread_attr_setstacksize(&attributes, stack_bytes);
	bool created = real.pthread_create(&thread, &attributes, run, NULL) == 0;
	pthread_attr_destroy(&attributes);
	return created;
}

void chores_thread_created(void)
{
	uint32_t pid = (uint32_t)sys_getpid(), seen = load_relaxed(&owner_pid);
	if (!rules.thread_allowed || load_relaxed(&cannot_sleep) || !tracer_is_recording() || seen == pid || !cas_acq_rel(&owner_pid, &seen, pid))
		return;
	store_relaxed(&asked_to_leave, 0);
	uint64_t all = ~0ULL, before = 0;
	uint32_t was_busy = sampler_self.busy;
	set_signals(SIG_SETMASK, &all, &before);
	sampler_self.busy = SAMPLER_NOT_THE_PROGRAM; // what pthread_create allocates here is ours
	// The small stack may be too small for this program's thread-local storage.
	if (!create_thread(STACK_BYTES) && !create_thread(0))
		store_relaxed(&owner_pid, 0);
	sampler_self.busy = was_busy;
	set_signals(SIG_SETMASK, &before, NULL);
}
