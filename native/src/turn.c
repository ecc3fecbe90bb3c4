// turn.c -- one thread at a time, though the process may fork in between
//
// Context:   cold; turn_try() may run inside malloc.
// Invariant: at most one thread of a process has a turn.
// Why:       not a mutex: a holder that did not survive a fork is recognised by its pid, and no handler need run in
//            the child. Sleeping is all right: who has a turn waits for nobody who may wait for it.
// Proof:     tests/native/test_turn.c; tests/models/tracer.pml
#include "turn.h"

#include "atomics.h"
#include "sys.h"

#include <time.h>

#define WAIT_NS 100000
#define FORK_WAITS 500

static void pause_briefly(void)
{
	static const struct timespec pause = {.tv_nsec = WAIT_NS};
	sys_call(SYS_nanosleep, &pause, 0, 0);
}

bool turn_try(struct turn *turn)
{
	uint32_t self = (uint32_t)sys_getpid(), holder = load_relaxed(&turn->holder);
	return holder != self && cas_acq_rel(&turn->holder, &holder, self); // pairs with turn_leave()
}

void turn_take(struct turn *turn)
{
	while (!turn_try(turn))
		pause_briefly();
}

void turn_leave(struct turn *turn) { store_release(&turn->holder, 0); }

void turn_before_fork(const struct turn *turn)
{
	uint32_t self = (uint32_t)sys_getpid();
	for (int i = 0; i < FORK_WAITS && load_acquire(&turn->holder) == self; i++)
		pause_briefly();
}
