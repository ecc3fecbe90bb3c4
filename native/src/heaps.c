// heaps.c -- what the C library's allocator says of itself
//
// Context:   cold: the chores thread, memleak_poll(), memleak_malloc_in_use(). Nowhere else: a handler of SIGABRT may load an
//            object while its thread is inside malloc, and cold code that runs then would wait for itself for ever.
// Invariant: allocates nothing. How long is CPU time: a thread that is preempted says nothing. It takes one part in HEAPS_SHARE of the time at most; after HEAPS_MOST_US it is not asked again.
// Why:       mallinfo2() counts free chunks one by one, with the lock of their arena: 17 ns for each, 17 ms for a million (measured),
//            and threads that allocate meanwhile wait. No reader can ask a dead process.
// Proof:     tests/native/test_ledger.c; tests/scenarios/test_ledger_workloads.py
#include "heaps.h"

#include "allocator.h"
#include "atomics.h"
#include "clock.h"
#include "loader.h"
#include "memleak_format.h"
#include "modules.h"
#include "objects.h"

#define HEAPS_MOST_US 20000U // never again in this recording
#define HEAPS_SHARE 2000U   // one part of the time in so many it may take

// As <malloc.h> of glibc 2.33 declares it; found by name, so that older ones load us.
struct in_use {
	size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};

static uint32_t asking; // 1: some thread is at it
static uint32_t took_long; // 1: it is not asked again
static uint32_t next_cs;

void heaps_begin(void)
{
	store_relaxed(&asking, 0);
	store_relaxed(&took_long, 0);
	store_relaxed(&next_cs, 0);
}

bool heaps_ask(struct ledger_heap *out)
{
	*out = (struct ledger_heap){.state = MLF_HEAP_NOT_ASKED};
	if (loader_lock_may_be_lost())
		return false;
	uintptr_t function = objects_symbol("mallinfo2");
	out->state = function ? MLF_HEAP_OTHER : MLF_HEAP_CANNOT_TELL;
	if (!function || modules_find(function) != modules_find((uintptr_t)real.malloc))
		return false;
	uint64_t before = clock_thread_cpu_ns();
	struct in_use now = ((struct in_use(*)(void))function)();
	*out = (struct ledger_heap){
	    .state = MLF_HEAP_TOLD,
	    .took_us = (uint32_t)((clock_thread_cpu_ns() - before) / 1000),
	    .bytes = now.arena,
	    .used_bytes = now.uordblks,
	    .free_bytes = now.fordblks,
	    .fast_bytes = now.fsmblks,
	    .top_bytes = now.keepcost,
	    .mapped_bytes = now.hblkhd,
	};
	return true;
}

void heaps_ask_if_due(void)
{
	struct ledger_heap told;
	if (!ledger_is_due() || clock_now_cs() < load_relaxed(&next_cs) || load_relaxed(&took_long) || exchange_acq_rel(&asking, 1))
		return;
	heaps_ask(&told);
	ledger_note_heap(&told);
	store_relaxed(&next_cs, clock_now_cs() + (uint32_t)(told.took_us * (uint64_t)HEAPS_SHARE / 10000));
	if (told.took_us > HEAPS_MOST_US) {
		store_relaxed(&took_long, 1);
		ledger_note_heap(&(struct ledger_heap){.state = MLF_HEAP_TOO_LONG});
	}
	store_release(&asking, 0); // pairs with the exchange above
}
