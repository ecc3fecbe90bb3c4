// turn.h -- one thread at a time, though the process may fork in between
//
// Layer 4. Cold; turn_try() may run inside malloc.
#ifndef MEMLEAK_TURN_H
#define MEMLEAK_TURN_H

#include "base.h"

struct turn {
	uint32_t holder; // pid of the process one of whose threads has it; 0 = nobody
};

// False: a thread of this process has it, perhaps this one.
bool turn_try(struct turn *turn);

// Sleeps until it can be had. Not inside malloc, and not by who has it.
void turn_take(struct turn *turn);

void turn_leave(struct turn *turn);

// For pthread_atfork(): waits until no thread of this process has it, 50 ms at most.
void turn_before_fork(const struct turn *turn);

#endif
