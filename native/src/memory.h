// memory.h -- what bounds the memory of this process, and how much of that is used
//
// Layer 3. Cold. Direct system calls only, no descriptor stays open; the structures are the caller's: one caller at a time.
#ifndef MEMLEAK_MEMORY_H
#define MEMLEAK_MEMORY_H

#include "base.h"

struct memory_bound {
	uint64_t limit_bytes; // 0: none
	uint64_t used_bytes;
	uint32_t kind; // enum mlf_limit
};

// Where the cgroup's files are.
struct memory_cgroup {
	char directory[320]; // "": no cgroup has a limit
	bool is_v1;
	char text[2048]; // what is being read
};

// The cgroup of this process, or one above it, that has a limit below the machine's memory; of several the one nearest to it.
void memory_find_cgroup(struct memory_cgroup *cgroup);

// Two small files, above 80 % a third: what the kernel can take back at once, pages of files it has no use for, is not used.
struct memory_bound memory_look_at_cgroup(struct memory_cgroup *cgroup);

// Of the cgroup and the process's own limits the one nearest to its end; if there is none, the machine. At most 14 system calls.
struct memory_bound memory_look(struct memory_cgroup *cgroup, uint64_t *resident_bytes);

struct memory_split { // of what is resident, and of what is not
	uint64_t anonymous_bytes, file_bytes, shared_bytes;
	uint64_t swapped_bytes, locked_bytes, page_table_bytes;
	uint32_t threads;
};

// One small file, read into `text`. False: the kernel is older than 4.5, or the file cannot be read.
bool memory_look_at_split(char *text, size_t room, struct memory_split *out);

// Grows with what is resident by as much at least, and by as much more as memory comes and goes; 0 where the kernel does not
// say. One system call, no descriptor.
uint64_t memory_touched_bytes(void);

extern const char *memory_root HIDDEN; // before /proc and /sys: "", but for tests

#endif
