// hook_pymem.h -- Python's own allocators
//
// Layer 14. The hooks are hot.
#ifndef MEMLEAK_HOOK_PYMEM_H
#define MEMLEAK_HOOK_PYMEM_H

#include "base.h"
#include "memleak_format.h"

struct pymem_allocator { // PyMemAllocatorEx
	void *context;
	void *(*malloc)(void *, size_t);
	void *(*calloc)(void *, size_t, size_t);
	void *(*realloc)(void *, void *, size_t);
	void (*free)(void *, void *);
};

struct pymem_arenas { // PyObjectArenaAllocator
	void *context;
	void *(*alloc)(void *, size_t);
	void (*free)(void *, void *, size_t);
};

enum hook_pymem_domain { HOOK_PYMEM_RAW, HOOK_PYMEM_MEM, HOOK_PYMEM_OBJ, HOOK_PYMEM_DOMAINS }; // PyMemAllocatorDomain

// What our hooks stand in front of. One that was put in front of something stays as it is: another tool may have kept it,
// and put it back.
#define HOOK_PYMEM_PLACES 4U
struct hook_pymem_place {
	struct pymem_allocator original; // .malloc NULL: not used yet
	size_t least, sizes; // requests of `least` and the following `sizes` - 1 bytes are cut from an arena
	enum mlf_domain domain;
	bool tried; // these were found out by trying
};
#define HOOK_PYMEM_MOST_IN_ARENA 512U // pymalloc's own limit in every version
extern struct hook_pymem_place hook_pymem_place[HOOK_PYMEM_DOMAINS][HOOK_PYMEM_PLACES] HIDDEN;

// The hooks of each place. They want the context of what they stand in front of: who reads an allocator's words while
// others are stored there (a thread without the GIL, an interpreter with one of its own) has a pair that fits, whichever it
// reads. In domain RAW .free is NULL: blocks are given back to what handed them out.
extern const struct pymem_allocator hook_pymem_functions[HOOK_PYMEM_DOMAINS][HOOK_PYMEM_PLACES] HIDDEN;

// Does a call come by a hook? With a domain's question as this thread's hint, that domain's hook gives the answer when a
// request is passed on.
#define HOOK_PYMEM_ASKED(domain) (0x70U | (unsigned)(domain)) // enum mlf_domain
#define HOOK_PYMEM_ANSWERED 0x7FU

extern struct pymem_arenas hook_pymem_arenas_behind HIDDEN; // .alloc NULL: none yet
extern const struct pymem_arenas hook_pymem_arenas HIDDEN;

// Called when pymalloc has got an arena, from within it: a cold moment, but one that may neither ask Python for memory nor
// open files.
void hook_pymem_when_arena_comes(void (*call)(void));

#endif
