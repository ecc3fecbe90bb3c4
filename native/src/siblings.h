// siblings.h -- the recordings that are in a directory already, and the room they leave
//
// Layer 4. Cold. Uses direct system calls only (a forked child opens its recording from inside malloc). One caller at a time.
#ifndef MEMLEAK_SIBLINGS_H
#define MEMLEAK_SIBLINGS_H

#include "base.h"

// Removes recordings of the dead until the newest 16 are left, within 64 MiB and half of our share of the file system.
void siblings_prune(int directory_fd);

// The same for a directory of copies, where one that nobody renews counts as a dead process's.
void siblings_prune_copies(int directory_fd);

// True if `more` bytes may be backed: our files there stay within 1/8 of the file system and it
// has that much free, and the cgroup is below 90 % of its limit.
bool siblings_have_room(int directory_fd, uint64_t more);

// True if a copy of so many bytes may be written: with it our files there stay within 1/8 of the file system, and it has that
// much free. Any number of callers at a time.
bool siblings_copy_fits(int directory_fd, uint64_t bytes);

// By how much a recording of `bytes` may grow, `most` at most, by the same rules. It must leave as much as it takes: of n
// that grow each gets 1/(n+1) of our share, and processes that begin later find the rest.
uint64_t siblings_may_grow(const char *file_path, uint64_t bytes, uint64_t most);

// The same for a new recording: dead ones are removed for it, again if another process was faster to use their room.
bool siblings_make_room(int directory_fd, uint64_t more);

// What a recording may start with so that 16 of them fit: `wanted`, less on a small file system.
uint64_t siblings_fair_start(int directory_fd, uint64_t wanted, uint64_t least);

// Field 22 of /proc/PID/stat; 0 if unreadable.
uint64_t siblings_process_start_ticks(uint32_t pid);

// Inode of this process's pid namespace; 0 if unreadable.
uint64_t siblings_pid_namespace(void);

#endif
