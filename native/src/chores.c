// chores.c -- when cold work runs
//
// Context:   cold. The chores thread sleeps a second at a time and does what tracer_poll() does.
// Invariant: there is at most one chores thread, only after the program made a thread itself, with all
//            signals blocked; its own allocations are never sampled.
// Why:       a single-threaded program must stay single-threaded: a native thread makes os.fork()
//            warn in Python 3.12+, unshare(CLONE_NEWUSER) fail and stdio take locks.
// Proof:     tests/integration/test_preload.py (single-threaded stays so)
#include "chores.h"

#include "allocator.h"
#include "atomics.h"
#include "hook_new.h"
#include "modules.h"
#include "sampler.h"
#include "sys.h"
#include "text.h"
#include "tracer.h"

#include <limits.h>
#include <signal.h>
#include <time.h>

#define STACK_BYTES (128U << 10)

static bool thread_allowed = true;
static uint32_t owner_pid; // the process whose chores thread exists

void chores_allow_thread(bool allowed) { thread_allowed = allowed; }

// The program's main thread is gone (pthread_exit) while others run. The kernel forgets a thread's list of
// robust mutexes when it ends; asking for that takes no descriptor, which the program might notice.
static bool main_thread_ended(void)
{
	void *head = &head;
	size_t length;
	return sys_call(SYS_get_robust_list, sys_getpid(), &head, &length) == 0 && !head;
}

// Of a process whose main thread is gone: is this thread the only other one?
static bool alone(void)
{
	char stat[512];
	return sys_read_file("/proc/self/stat", stat, sizeof(stat)) > 0 &&
	       text_stat_field(stat, 20) == 2; // the main thread, a zombie, and this one
}

static void *run(void *unused)
{
	(void)unused;
	sampler_self.busy = SAMPLER_NOT_THE_PROGRAM; // for ever
	unsigned modules = 0;
	while (tracer_is_recording()) {
		tracer_poll();
		if (modules != modules_count()) { // objects have come: their operator new is not hooked yet
			modules = modules_count();
			hook_new_patch();
		}
		struct timespec time = {.tv_sec = 1};
		if (unlikely(main_thread_ended())) {
			if (alone()) // the program's last thread has ended: with ours the process does, as without us
				break;
			time = (struct timespec){.tv_nsec = 20000000};
		}
		sys_call(SYS_nanosleep, &time, 0, 0);
	}
	store_relaxed(&owner_pid, 0);
	return NULL;
}

static void set_signals(int how, const uint64_t *set, uint64_t *old)
{
	sys_call6(SYS_rt_sigprocmask, how, (long)set, (long)old, sizeof(*set), 0, 0);
}

void chores_thread_created(void)
{
	uint32_t pid = (uint32_t)sys_getpid(), seen = load_relaxed(&owner_pid);
	if (!thread_allowed || !tracer_is_recording() || seen == pid || !cas_acq_rel(&owner_pid, &seen, pid))
		return;
	pthread_attr_t attributes;
	pthread_t thread;
	uint64_t all = ~0ULL, before = 0;
	uint32_t was_busy = sampler_self.busy;
	set_signals(SIG_SETMASK, &all, &before);
	sampler_self.busy = SAMPLER_NOT_THE_PROGRAM; // what pthread_create allocates here is ours
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	if (real.pthread_create(&thread, &attributes, run, NULL) != 0) {
		// Too small for this program's thread-local storage, or no thread to be had.
		pthread_attr_destroy(&attributes);
		pthread_attr_init(&attributes);
		pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
		if (real.pthread_create(&thread, &attributes, run, NULL) != 0)
			store_relaxed(&owner_pid, 0);
	}
	pthread_attr_destroy(&attributes);
	sampler_self.busy = was_busy;
	set_signals(SIG_SETMASK, &before, NULL);
}
