// unwind_step.h -- a step up the stack that no rule word can tell
//
// Layer 5. Sampled: no allocation, lock, system call or fault, whatever the stack holds.
#ifndef MEMLEAK_UNWIND_STEP_H
#define MEMLEAK_UNWIND_STEP_H

#include "base.h"
#include "elfimage.h"

// A bp that could not be read: it is in no stack, so that only a frame that needs it ends the walk.
// Compilers leave wrong rules for bp behind the last use of it (gcc: epilogues of realigned frames).
#define UNWIND_BP_UNKNOWN 0U

struct unwind_walk {
	uintptr_t pc, sp, bp;
	const struct elf_image *image; // that pc lies in
	uintptr_t low, high;   // readable stack
	uintptr_t exact;       // 0: pc is a return address; else pc was interrupted, and this is the sp of
	                       // the kernel's frame if its layout is the known one, else 1
	uintptr_t extra_value; // of extra_register, if extra_known
	unsigned extra_register;
	bool extra_known;
	bool moved; // low and high are no longer of the stack where the walk began
};

enum unwind_step {
	UNWIND_STEP_DONE,
	UNWIND_STEP_NEEDS_REGISTER, // not of unwind_step(): the CFA is told by w->extra_register, which must be found first
	UNWIND_STEP_BAD,
	UNWIND_STEP_OUTSIDE,
};

// One step by reading the row of call frame information for where w stands, in `module`: `depth` frames above `registers`.
enum unwind_step unwind_step(const struct registers *registers, unsigned depth, unsigned module, struct unwind_walk *w);

// Reads between and over other functions' locals: not for AddressSanitizer to judge.
__attribute__((no_sanitize("address"))) static inline uintptr_t unwind_load(uintptr_t address)
{
	// Garbage may be misaligned, and it has no type.
	struct __attribute__((packed, may_alias)) word {
		uintptr_t value;
	};
	return ((const struct word *)address)->value;
}

static inline bool unwind_in_range(uintptr_t low, uintptr_t high, uintptr_t address)
{
	return address >= low && address < high && high - address >= sizeof(uintptr_t);
}

#endif
