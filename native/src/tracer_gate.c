// tracer_gate.c -- is anything being recorded, and who is inside sampled code
//
// Context:   cold. What is sampled stands in the header: compiled into who calls it, it is no call in a sample.
// Invariant: nothing of the recording's tables is touched but between tracer_enter() and tracer_leave(). Whoever finds the
//            page finds its word behind `armed`: a child that is forked at any moment finds both zeroed, or neither there.
// Why:       a child that wrote into its parent's recording before it noticed what it is would spoil it; no
//            handler of fork() runs in a raw clone.
// Proof:     tests/native/test_tracer.c; tests/integration/test_fork.py; tests/models/tracer.pml
#include "tracer_gate.h"

#include "sys.h"

#include <time.h>

#define QUIET_WAIT_NS 100000U

_Static_assert(sizeof(struct tracer_wiped) <= PAGE_BYTES, "one page is wiped");

const uint64_t tracer_off = SAMPLER_OFF;

static struct tracer_wiped never_started = {.word = 1}; // nothing to detach from
struct tracer_wiped *tracer_wiped = &never_started;
struct tracer_gate tracer_gate = {&never_started.word, &tracer_off, false};
enum tracer_phase tracer_phase;
struct counter tracer_python;

enum tracer_state tracer_state(void)
{
	enum tracer_phase phase = load_relaxed(&tracer_phase);
	if (phase == TRACER_PHASE_ACTIVE)
		return load_relaxed(load_relaxed(&tracer_gate.armed)) ? TRACER_RECORDING : TRACER_FORKED;
	return phase == TRACER_PHASE_STOPPED ? TRACER_STOPPED : TRACER_IDLE;
}

bool tracer_do(void (*work)(const void *about), const void *about)
{
	uint32_t *inside = tracer_enter();
	if (!inside)
		return false;
	work(about);
	tracer_leave(inside);
	return true;
}

bool tracer_all_left(unsigned waits)
{
	static const struct timespec pause = {.tv_nsec = QUIET_WAIT_NS};
	// Each place by itself: whoever enters from now on finds the phase changed and does nothing.
	for (unsigned i = 0; i < TRACER_SHARDS; i++)
		while (load_seq_cst(&tracer_wiped->shard[i].inside)) {
			if (waits-- == 0)
				return false;
			sys_call(SYS_nanosleep, &pause, 0, 0);
		}
	return true;
}

bool tracer_has_page(void) { return tracer_wiped != &never_started; }

bool tracer_make_page(void)
{
	struct tracer_wiped *page = sys_private_pages(PAGE_BYTES);
	if (!page || sys_madvise(page, PAGE_BYTES, MADV_WIPEONFORK) != 0)
		return false;
	// In this order: what a child that is forked in between starts with is whole, or not begun.
	store_release(&tracer_gate.armed, &page->word);
	store_release(&tracer_wiped, page);
	return true;
}
