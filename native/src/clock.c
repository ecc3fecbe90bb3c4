// clock.c -- time in centiseconds since the recording began
//
// Context:   clock_now_cs() and clock_monotonic_ns() are sampled; the rest is cold.
// Invariant: start_ns is written before the recording is published and then only by a forked child.
// Why:       clock_gettime() is a vDSO read on every supported kernel; CLOCK_REALTIME can step.
// Proof:     tests/native/test_clock.c
#include "clock.h"

#include "atomics.h"

#include <time.h>

static uint64_t start_ns;

static uint64_t read_ns(clockid_t which)
{
	struct timespec now;
	clock_gettime(which, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_monotonic_ns(void) { return read_ns(CLOCK_MONOTONIC_COARSE); }
uint64_t clock_monotonic_precise_ns(void) { return read_ns(CLOCK_MONOTONIC); }
uint64_t clock_process_cpu_ns(void) { return read_ns(CLOCK_PROCESS_CPUTIME_ID); }
uint64_t clock_thread_cpu_ns(void) { return read_ns(CLOCK_THREAD_CPUTIME_ID); }
uint64_t clock_realtime_ns(void) { return read_ns(CLOCK_REALTIME); }
void clock_set_start(uint64_t monotonic_ns) { store_relaxed(&start_ns, monotonic_ns); }

uint32_t clock_now_cs(void)
{
	uint64_t now = clock_monotonic_ns(), start = load_relaxed(&start_ns);
	// The coarse clock may lag the precise one that set the start by a tick.
	return now <= start ? 1 : (uint32_t)((now - start) / 10000000u) + 1;
}
