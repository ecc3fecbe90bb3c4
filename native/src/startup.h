// startup.h -- the two doors
//
// Layer 18. Cold.
#ifndef MEMLEAK_STARTUP_H
#define MEMLEAK_STARTUP_H

#include "base.h"

struct startup_knobs {
	uint64_t interval, python_interval, sample_bytes;
	uint32_t max_frames;
	bool python, native;
};

enum startup_outcome { STARTUP_STARTED, STARTUP_WAS_RUNNING, STARTUP_REFUSED };

// Any thread, also one of several at once. *why is never NULL afterwards, "" if there is nothing to say.
enum startup_outcome startup_begin(const struct startup_knobs *knobs, const char **why);
bool startup_end(void); // true: it was recording

#endif
