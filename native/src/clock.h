// clock.h -- time in centiseconds since the recording began
//
// Layer 3. Hooks read CLOCK_MONOTONIC_COARSE only: a vDSO read of ~5 ns, no system call; its 4 ms
// grain is far below the centisecond we keep.
#ifndef MEMLEAK_CLOCK_H
#define MEMLEAK_CLOCK_H

#include "base.h"

uint64_t clock_monotonic_ns(void);        // coarse
uint64_t clock_monotonic_precise_ns(void); // cold
uint64_t clock_realtime_ns(void);         // cold
uint64_t clock_process_cpu_ns(void);      // cold: CPU time of all threads; a system call
uint64_t clock_thread_cpu_ns(void);       // cold: of this one; a system call
void clock_set_start(uint64_t monotonic_ns);
uint32_t clock_now_cs(void); // never 0: 0 means "not set" in the recording

#endif
