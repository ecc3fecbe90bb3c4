// greenlets.c -- where the native stack of a greenlet begins
//
// Context:   sampled.
// Invariant: as many runs of the interpreter stay as the greenlet's Python frames tell, and what stands between the
//            outermost of them and greenlet's own function. While greenlet switches on CPython 3.12 and later they tell
//            too few, for what separates runs is unlinked then; greenlet's functions stand among a greenlet's own frames
//            only where it switches, inside of all runs, and where it begins.
// Why:       a greenlet runs on a part of its thread's stack. Unwinding goes on, further out than where it begins, into
//            what ran there before: frames of others, other ones at each time, each a stack and a row of its own. Python
//            frames end where the greenlet begins. A function's name would tell too, but greenlet's are not dynamic.
// Proof:     tests/native/test_greenlets.c, tests/scenarios/test_greenlets.py
#include "greenlets.h"

#include "memleak_format.h"
#include "modules.h"
#include "pyruntime.h"

static bool is_loop(uint64_t frame)
{
	uint64_t at = frame & MLF_FRAME_EXACT ? frame & ~MLF_FRAME_EXACT : frame - 1; // a return address may be its function's end
	return at - pyruntime.loop_low < pyruntime.loop_high - pyruntime.loop_low;
}

static bool is_greenlets(uint64_t frame)
{
	return modules_get((unsigned)(frame >> MLF_FRAME_MODULE_SHIFT))->flags & MLF_MODULE_GREENLET;
}

unsigned greenlets_own_frames(const uint64_t *frames, unsigned count, unsigned runs)
{
	if (likely(!modules_greenlet_seen()) || !runs)
		return count;
	for (unsigned i = 0; i < count; i++) {
		if (is_loop(frames[i]))
			runs -= runs > 0;
		else if (runs == 0 && is_greenlets(frames[i]))
			return i + 1;
	}
	return count;
}
