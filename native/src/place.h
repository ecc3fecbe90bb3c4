// place.h -- where a recording may live: directory, name, owner, how much of the file system
//
// Layer 4. Cold. Uses direct system calls only (a forked child opens its recording from inside malloc).
#ifndef MEMLEAK_PLACE_H
#define MEMLEAK_PLACE_H

#include "base.h"

struct place {
	int directory_fd; // -1: no usable directory
	char path[512];   // of the file
	const char *name; // its last part, inside path
	const char *why;  // when directory_fd < 0: what is wrong with the last one tried
	const char *asked_why; // `directory` was given and will not do: what is wrong with it; else NULL
};

// First usable of `directory`, `runtime`/memleak, /dev/shm/memleak-UID: on tmpfs,
// ours, 0700. Names the file PID-START-RANDOM.mlrec. Prunes dead and stopped recordings of this host.
bool place_choose(const char *directory, const char *runtime, uint64_t random, uint64_t start_ticks,
		  struct place *out);

// True if `more` bytes may be backed: our files there stay within 1/8 of the file system and it
// has that much free, and the cgroup is below 90 % of its limit.
bool place_has_room(int directory_fd, uint64_t more);

// The same for a recording of `bytes` that grows. It must leave as much as it takes: of n that grow each gets 1/(n+1) of
// our share, and processes that begin later find the rest.
bool place_may_grow(const char *file_path, uint64_t bytes, uint64_t more);

// The same for a new recording: dead ones are removed for it, again if another process was faster to use their room.
bool place_make_room(int directory_fd, uint64_t more);

// What a recording may start with so that 16 of them fit: `wanted`, less on a small file system.
uint64_t place_fair_start(int directory_fd, uint64_t wanted, uint64_t least);

// Field 22 of /proc/PID/stat; 0 if unreadable.
uint64_t place_process_start_ticks(uint32_t pid);

// Inode of this process's pid namespace; 0 if unreadable.
uint64_t place_pid_namespace(void);

#endif
