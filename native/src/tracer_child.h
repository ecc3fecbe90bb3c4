// tracer_child.h -- a forked child: away from its parent's recording, and to one of its own
//
// Layer 12. Sampled, unless marked cold.
#ifndef MEMLEAK_TRACER_CHILD_H
#define MEMLEAK_TRACER_CHILD_H

#include "base.h"

// So many more calls were made in a process that is TRACER_FORKED. At the thousandth it opens its own recording.
void tracer_child_calls(uint32_t calls);

// A forked child's own recording, if it is to have one and nobody has the turn. Then tracer_is_recording().
void tracer_open_in_child(void);

// The same, or after who has the turn has left it: not inside malloc. False: this is no such child. Cold.
bool tracer_await_child(void);

// Called right after a child has opened its own, perhaps inside malloc. Cold to set.
void tracer_when_child_opens(void (*call)(void));

#endif
