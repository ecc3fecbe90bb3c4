// unwind_thread.c -- which memory is the calling thread's stack?
//
// Context:   sampled; unwind_init() is cold. No system call, no libc call: pthread_getattr_np()
//            allocates, reads a file and takes a lock.
// Invariant: memory from the thread's sp to the `high` given here is mapped and readable.
// Why:       glibc keeps (stackblock, stackblock_size, guardsize) of a thread in its struct pthread, at
//            the thread pointer, which itself lies at the top of that block. So the words prove
//            themselves: block <= sp < thread pointer < block + size, and what is above the thread
//            pointer is no larger than that structure. Where they stand is found once, by search.
//            The first thread has no block: its words are (0, __libc_stack_end).
// Proof:     tests/native/test_unwind.c
#include "unwind_thread.h"

#include "arch_x86_64.h"
#include "atomics.h"
#include "objects.h"
#include "sys.h"

#include <sys/auxv.h>
#include <sys/resource.h>

// Every glibc since 2.28 has at least this much in struct pthread; searching stays inside of it.
#define TCB_SEARCH_BYTES 2048U
// What may lie between a thread pointer and the end of its block: struct pthread, alignment.
#define TCB_ROOM_MAX 16384U
// No stack is larger; without this a small number and a pointer would pass for a block.
#define BLOCK_MAX (1UL << 40)
// The kernel keeps mappings away from the first thread's stack by this much, or RLIMIT_STACK.
#define MAIN_GAP_BYTES (128UL << 20)

// Set by unwind_init(), constant afterwards.
static struct {
	uintptr_t low, high; // the first thread's stack
	uintptr_t end;       // __libc_stack_end
	uintptr_t thread;    // its thread pointer, 0 = not known
	uint32_t tid_offset; // in struct pthread, 0 = not known
} first;

// Offset of stackblock in struct pthread, 0 = not yet found. Any thread that finds it writes it;
// relaxed: a number that every use checks again.
static uint32_t block_offset;
// Lowest sp of the first thread ever seen: from here up its stack is mapped. Relaxed: only lowered.
static uintptr_t first_seen_sp = UINTPTR_MAX;

static inline uintptr_t tcb_word(uintptr_t thread, uint32_t offset)
{
	return *(const uintptr_t *)(thread + offset);
}

static inline bool is_block(uintptr_t thread, uintptr_t block, uintptr_t bytes)
{
	return block < thread && bytes <= BLOCK_MAX && bytes > thread - block && bytes - (thread - block) <= TCB_ROOM_MAX;
}

static inline bool is_first(uintptr_t thread, uint32_t offset)
{
	return offset && first.end && tcb_word(thread, offset) == 0 && tcb_word(thread, offset + 8) == first.end;
}

static NOINLINE uint32_t search_block(uintptr_t thread, uintptr_t sp)
{
	for (uint32_t offset = 8; offset + 24 <= TCB_SEARCH_BYTES; offset += 8)
		if (tcb_word(thread, offset) <= sp && sp < thread &&
		    is_block(thread, tcb_word(thread, offset), tcb_word(thread, offset + 8))) {
			store_relaxed(&block_offset, offset);
			return offset;
		}
	return 0;
}

// The stack that the calling thread was created with; {0, 0} = not known.
static struct unwind_bounds own_stack(uintptr_t sp)
{
	uintptr_t thread = arch_thread_pointer();
	uint32_t offset = load_relaxed(&block_offset);
	if (thread == first.thread || is_first(thread, offset))
		return (struct unwind_bounds){first.low, first.high};
	if (!offset)
		offset = search_block(thread, sp);
	if (!offset)
		return (struct unwind_bounds){0, 0};
	uintptr_t block = tcb_word(thread, offset), bytes = tcb_word(thread, offset + 8);
	uintptr_t guard = tcb_word(thread, offset + 16);
	if (!is_block(thread, block, bytes))
		return (struct unwind_bounds){0, 0};
	return (struct unwind_bounds){block + (guard < thread - block ? guard : 0), thread};
}

struct unwind_bounds unwind_thread_bounds(uintptr_t sp)
{
	struct unwind_bounds own = own_stack(sp);
	if (likely(sp >= own.low && sp < own.high)) {
		if (own.high == first.high && sp < load_relaxed(&first_seen_sp))
			store_relaxed(&first_seen_sp, sp);
		return own;
	}
	// Some other stack (sigaltstack, ucontext, a thread without a TCB of its own). sp's caller has
	// pushed its return address just below sp, so the page of that word is there; no more is known.
	return (struct unwind_bounds){0, round_up(sp, PAGE_BYTES)};
}

struct unwind_bounds unwind_thread_stack_from(uintptr_t sp)
{
	struct unwind_bounds own = own_stack(sp);
	uintptr_t low = own.high == first.high ? load_relaxed(&first_seen_sp) : own.low;
	if (sp < low || sp >= own.high)
		return (struct unwind_bounds){0, 0};
	return (struct unwind_bounds){sp, own.high};
}

uint32_t unwind_thread_tid(void)
{
	uint32_t offset = first.tid_offset;
	return offset ? *(const uint32_t *)(arch_thread_pointer() + offset) : 0;
}

COLD static void find_first_stack(void)
{
	const uintptr_t *end = (const uintptr_t *)objects_symbol("__libc_stack_end");
	first.end = end ? *end : 0;
	// The loader clears it in programs with an executable stack; the kernel's random bytes lie a
	// little above.
	uintptr_t top = first.end ? first.end + sizeof(uintptr_t) : getauxval(AT_RANDOM);
	if (!top)
		return;
	struct rlimit limit = {0, 0};
	uintptr_t gap = MAIN_GAP_BYTES;
	if (sys_call6(SYS_prlimit64, 0, RLIMIT_STACK, 0, (long)&limit, 0, 0) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    limit.rlim_cur > gap)
		gap = limit.rlim_cur;
	first.high = round_up(top, PAGE_BYTES);
	first.low = first.high > gap ? first.high - gap : PAGE_BYTES;
}

COLD void unwind_init(void)
{
	uintptr_t thread = arch_thread_pointer();
	uint32_t tid = (uint32_t)sys_call(SYS_gettid, 0, 0, 0);
	find_first_stack();
	// It follows pointers, so it is where one could be: the upper half of an address is 0x7f.., which are numbers of threads, too.
	for (uint32_t offset = 0; offset + 4 <= TCB_SEARCH_BYTES && !first.tid_offset; offset += 8)
		if (*(const uint32_t *)(thread + offset) == tid)
			first.tid_offset = offset;
	if (tid != (uint32_t)sys_call(SYS_getpid, 0, 0, 0)) {
		search_block(thread, (uintptr_t)__builtin_frame_address(0));
		return;
	}
	first.thread = thread;
	for (uint32_t offset = 8; first.end && offset + 24 <= TCB_SEARCH_BYTES; offset += 8)
		if (tcb_word(thread, offset) == 0 && tcb_word(thread, offset + 8) == first.end) {
			store_relaxed(&block_offset, offset);
			return;
		}
}
