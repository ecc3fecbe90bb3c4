// unwind_cost.c -- what one backtrace costs: ours against backtrace(3)
//
// usage: unwind_cost                      prints a line for each kind of stack: its name, ours and backtrace(3) in ns
//        unwind_cost ours|libc WALKS     only walks, up the same stack
//
// Sixteen frames of code compiled as the core is: the same stack again and again, and stacks that differ
// each time (random paths through 256 functions); and the same stack with every rule forgotten, which only
// we can. Rounds of both unwinders alternate, so that a change of the clock hits both; medians of the
// rounds are printed. benchmarks/unwind_cost.py compiles and runs it.
#include "modules.h"
#include "unwind.h"

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 201
#define CALLS 200
#define FRAMES 16

static double samples[5][ROUNDS];
static uint64_t checksum, frames_seen;
static enum { OURS, LIBC, NOTHING } who;

static unsigned calls_at_end;
static bool forget; // every rule before each walk: what new code costs

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static __attribute__((noinline)) void take_ours(unsigned calls)
{
	uint64_t frames[FRAMES], hash;
	enum unwind_end end;
	for (unsigned i = 0; i < calls; i++) {
		if (forget)
			modules_note_unload();
		struct registers here = REGISTERS_OF_CALLER();
		frames_seen += unwind(&here, unwind_thread_bounds(here.sp), frames, FRAMES, &hash, &end);
		checksum += hash;
	}
}

static __attribute__((noinline)) void take_libc(unsigned calls)
{
	void *frames[FRAMES + 1];
	for (unsigned i = 0; i < calls; i++) {
		frames_seen += (uint64_t)backtrace(frames, FRAMES + 1) - 1; // without its caller, as ours
		checksum += (uint64_t)frames[3];
	}
}

static __attribute__((noinline)) void leaf(void)
{
	if (who == OURS)
		take_ours(calls_at_end);
	else if (who == LIBC)
		take_libc(calls_at_end);
	__asm__ volatile("");
}

typedef void step(unsigned depth, uint64_t path);
extern step *const steps[];

static inline void next(unsigned depth, uint64_t path)
{
	if (depth == 0)
		leaf();
	else
		steps[path >> 56](depth - 1, path * 6364136223846793005ULL + 1442695040888963407ULL);
}

#define STEP(n)                                                                                    \
	static __attribute__((noinline)) void step_##n(unsigned depth, uint64_t path)              \
	{                                                                                          \
		uint64_t room[1 + n % 7];                                                          \
		room[0] = path;                                                                    \
		__asm__ volatile("" : : "r"(room) : "memory");                                     \
		next(depth, path + n);                                                             \
		__asm__ volatile("" : : "r"(room) : "memory");                                     \
	}
#define STEPS(h) STEP(h##0) STEP(h##1) STEP(h##2) STEP(h##3) STEP(h##4) STEP(h##5) STEP(h##6) STEP(h##7)
#define NAMES(h) step_##h##0, step_##h##1, step_##h##2, step_##h##3, step_##h##4, step_##h##5, step_##h##6, step_##h##7,
#define ALL(X)                                                                                     \
	X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(20) X(21) X(22) X(23) X(24) X(25) X(26)  \
	X(27) X(30) X(31) X(32) X(33) X(34) X(35) X(36) X(37) X(40) X(41) X(42) X(43) X(44) X(45)  \
	X(46) X(47)
ALL(STEPS)
step *const steps[256] = {ALL(NAMES)};

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof *values, by_size);
	return values[ROUNDS / 2];
}

int main(int argc, char **argv)
{
	modules_init(false);
	unwind_init();
	if (argc == 3) {
		who = strcmp(argv[1], "libc") == 0 ? LIBC : OURS;
		calls_at_end = (unsigned)atoi(argv[2]);
		next(FRAMES + 2, 88172645463325252ULL);
		return frames_seen != (uint64_t)calls_at_end * FRAMES;
	}
	uint64_t path = 88172645463325252ULL;
	for (int round = -10; round < ROUNDS; round++) {
		unsigned at = round < 0 ? 0 : (unsigned)round;
		for (who = OURS; who <= LIBC; who++) {
			uint64_t begin = now_ns();
			calls_at_end = CALLS;
			next(FRAMES + 2, 88172645463325252ULL);
			samples[who][at] = (double)(now_ns() - begin) / CALLS;
		}
		double random[3];
		uint64_t first = path;
		for (who = OURS; who <= NOTHING; who++) {
			path = first;
			calls_at_end = 1;
			uint64_t begin = now_ns();
			for (unsigned i = 0; i < CALLS; i++)
				next(FRAMES + 2, path = path * 2862933555777941757ULL + 3037000493ULL);
			random[who] = (double)(now_ns() - begin) / CALLS;
		}
		samples[2][at] = random[OURS] - random[NOTHING];
		samples[3][at] = random[LIBC] - random[NOTHING];
	}
	who = OURS;
	forget = true;
	calls_at_end = CALLS;
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t begin = now_ns();
		next(FRAMES + 2, 88172645463325252ULL);
		samples[4][round] = (double)(now_ns() - begin) / CALLS;
	}
	printf("same stack\t%.2f\t%.2f\n", median(samples[0]), median(samples[1]));
	printf("random stacks\t%.2f\t%.2f\n", median(samples[2]), median(samples[3]));
	printf("no rule known\t%.2f\n", median(samples[4]));
	return checksum == 0;
}
