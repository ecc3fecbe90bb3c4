// patch.c -- one word of a loaded object is exchanged while the program runs
//
// Context:   cold.
// Invariant: a word that the program may change is exchanged by compare-and-swap. A page is protected again only by
//            who opened it. No store of ours faults, whoever protects the page meanwhile, but for a tool that
//            protects one that we opened.
// Why:       a page that should be protected and is not belongs to an object that another thread is loading, or was left
//            so by another tool. To look and then to store would lose a race against that loader, and the program with
//            it; to protect the page afterwards would stop the loader instead.
// Proof:     tests/native/test_slots.c
#include "patch.h"

#include "atomics.h"
#include "pages.h"
#include "sys.h"

#include <errno.h>

#define TURNS 4

static bool cannot_close; // a page could not be protected again: no other is opened

// The one system call that stores a word of our choice at a place of our choice, in one piece (get_robust_list: the
// head of this thread's list of robust mutexes). Where a store would fault it returns -EFAULT. (process_vm_writev()
// may store the word byte by byte.)
static long store_by_kernel(uintptr_t *place, uintptr_t value)
{
	uintptr_t head;
	size_t bytes;
	long result = sys_call(SYS_get_robust_list, 0, &head, &bytes);
	if (result < 0)
		return result;
	result = sys_call(SYS_set_robust_list, value, bytes, 0);
	if (result < 0)
		return result;
	result = sys_call(SYS_get_robust_list, 0, place, &bytes);
	sys_call(SYS_set_robust_list, head, bytes, 0);
	return result;
}

static enum patch_result exchange(uintptr_t *place, uintptr_t from, uintptr_t to)
{
	return cas_acq_rel(place, &from, to) ? PATCH_DONE : PATCH_CHANGED; // a caller sees the old function or the new one
}

// Of a page that is protected and stays so.
static enum patch_result exchange_closed(uintptr_t *place, uintptr_t from, uintptr_t to)
{
	uintptr_t page = round_down((uintptr_t)place, PAGE_BYTES);
	if (cannot_close || sys_call(SYS_mprotect, page, PAGE_BYTES, PROT_READ | PROT_WRITE) < 0)
		return PATCH_REFUSED; // seccomp, mseal: the object stays as it is
	enum patch_result result = exchange(place, from, to);
	cannot_close = sys_call(SYS_mprotect, page, PAGE_BYTES, PROT_READ) < 0;
	return cannot_close ? PATCH_LEFT_OPEN : result;
}

enum patch_result patch_word(uintptr_t *place, uintptr_t from, uintptr_t to, bool relro)
{
	for (int turn = 0; turn < TURNS; turn++) {
		enum pages_state state = pages_look((uintptr_t)place);
		if (state == PAGES_UNKNOWN)
			return PATCH_LATER;
		if (!relro)
			return state == PAGES_WRITABLE ? exchange(place, from, to) : PATCH_REFUSED;
		if (state == PAGES_PROTECTED)
			return exchange_closed(place, from, to);
		if (load_acquire(place) != from)
			return PATCH_CHANGED;
		// Nobody but a loader or another tool writes here, and a loader only once: no compare-and-swap is needed.
		long result = store_by_kernel(place, to);
		if (result != -EFAULT)
			return result < 0 ? PATCH_REFUSED : PATCH_DONE;
		// It has been protected since: look again.
	}
	return PATCH_LATER;
}
