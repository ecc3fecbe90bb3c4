// mlf_counters.h -- what a recording counts
//
// A part of memleak_format.h, which has the rules.
#ifndef MLF_COUNTERS_H
#define MLF_COUNTERS_H

// X(name, makes_inexact, meaning). Order is format: append only.
// makes_inexact = 1: something that a full-mode answer must contain was lost.
#define MLF_COUNTERS(X)                                                                            \
	X(samples, 0, "allocations recorded")                                                      \
	X(forgotten, 0, "recorded allocations seen freed")                                         \
	X(stack_full, 1, "stacks not stored, no room: counted in the overflow row")                \
	X(row_full, 1, "rows not stored, no room: counted in the overflow row")                    \
	X(live_full, 1, "samples dropped, the live set had no room")                               \
	X(live_race, 1, "samples dropped, another thread was stopped in the same bucket")          \
	X(region_full, 1, "mappings dropped, more than the region table holds")                    \
	X(address_range, 1, "samples dropped, address above 2^48")                                 \
	X(history_full, 0, "rows without growth history, no room")                                 \
	X(module_full, 0, "modules met for which, or for whose name, there was no room")              \
	X(thread_full, 0, "threads counted as thread 0, table full")                               \
	X(lost, 1, "samples closed because their address came again: freed out of sight")          \
	X(nested, 1, "sampled calls passed over inside our own code (signal handler)")             \
	X(truncated, 0, "backtraces cut: deeper than max_frames, or the unwinder stopped early")   \
	X(unwind_no_cfi, 0, "unwinder stops: no unwind information at that place")                 \
	X(unwind_bad_cfi, 0, "unwinder stops: unwind information of a kind not followed")          \
	X(unwind_bounds, 0, "unwinder stops: the next frame would leave the known stack")          \
	X(unwind_foreign_stack, 0, "backtraces taken on a stack the thread was not created with")  \
	X(room_grown, 0, "times the backed room was extended")                                     \
	X(room_refused, 0, "times the room could not be extended")                                 \
	X(knobs_rejected, 0, "knob words from outside that were out of range and not adopted, a focus too")     \
	X(unloads, 0, "dlclose calls and unloads noticed")                                         \
	X(detached, 1, "sampled calls not recorded: the recording was not (yet) open")             \
	X(displaced, 1, "samples closed because another tool had taken our hooks for a while")     \
	X(code_full, 0, "Python frames whose code could not be stored, no room")                   \
	X(python_full, 0, "Python stacks not stored, no room")                                     \
	X(python_truncated, 0, "Python stacks cut: deeper than max_frames")                        \
	X(python_unreadable, 0, "Python stacks not followed: a frame did not look like one")       \
	X(copies_failed, 0, "copies that could not be written to the directory for them")            \
	X(python_subinterpreter, 0, "samples without Python frames: taken in a sub-interpreter, or perhaps so") \
	X(label_other, 0, "samples under the label `other`: there were more than 255 sets of labels")  \
	X(label_full, 0, "times a set of labels was met for whose text there was no room")          \
	X(outcome_missed, 0, "times that samples may have stayed under outcome=ok though their entry failed") \
	X(pool_other, 0, "times a pool was asked for by a name that came after 63 others: counted as `other`") \
	X(pool_full, 0, "times there was no room for what the recording says of a pool or a region") \
	X(pool_unnoted, 0, "blocks of pools whose owner could not be noted: their frees are not compared any more") \
	X(mismatches, 0, "sampled blocks whose free did not fit how they were allocated, suspects included") \
	X(mismatch_full, 0, "of these, those that found no room") \
	X(gauge_full, 0, "times a gauge was not recorded: no room, or a name beyond the 64th") \
	X(thinned, 1, "samples merged with another, the live set had no room: that one stands for both")

enum mlf_counter {
#define MLF_X(name, inexact, meaning) MLF_COUNTER_##name,
	MLF_COUNTERS(MLF_X)
#undef MLF_X
	MLF_COUNTER_COUNT
};
#define MLF_COUNTER_SLOTS 64
_Static_assert(MLF_COUNTER_COUNT <= MLF_COUNTER_SLOTS, "too many counters");

#endif
