// place.h -- where a recording may live: directory, owner, name
//
// Layer 4. Cold. Uses direct system calls only (a forked child opens its recording from inside malloc).
#ifndef MEMLEAK_PLACE_H
#define MEMLEAK_PLACE_H

#include "base.h"
#include "text.h"

struct place {
	int directory_fd; // -1: no usable directory
	char path[512];   // of the file
	const char *name; // its last part, inside path
	const char *why;  // when directory_fd < 0: what is wrong with the last one tried
	const char *asked_why; // `directory` was given and will not do: what is wrong with it; else NULL
	bool takes_copies; // `directory` is not on tmpfs, and good otherwise
};

// First usable of `directory`, `runtime`/memleak, /dev/shm/memleak-UID: on tmpfs,
// ours, 0700. Names the file PID-START-RANDOM.mlrec.
bool place_choose(const char *directory, const char *runtime, uint64_t random, uint64_t start_ticks,
		  struct place *out);

// Opens `path`, made 0700 if it is missing; it must be absolute, ours and closed to others. -1 and *why if it will not do.
int place_open_directory(const char *path, const char **why);

// The same directory, by whatever path. -1 is none.
bool place_is_same(int directory_fd, int other_fd);

// PID-START-RANDOM.mlrec
void place_name(struct text *to, uint32_t pid, uint64_t start_ticks, uint64_t random);

#endif
