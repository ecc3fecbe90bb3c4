// test_clock.c -- the time in a recording does not step when the machine's clock does
#include "harness.h"

#include "clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned asked;

// In place of the C library's: the wall clock is set by years, forward and back, each time it is read.
__attribute__((visibility("default"))) int clock_gettime(clockid_t which, struct timespec *now)
{
	long failed = syscall(SYS_clock_gettime, which, now);
	if (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)
		now->tv_sec += asked++ % 2 ? 1000000000 : -1000000000;
	return (int)failed;
}

static void test_goes_on_evenly(void)
{
	clock_set_start(clock_monotonic_precise_ns());
	uint32_t first = clock_now_cs(), now = first;
	CHECK(first >= 1 && first <= 2);
	while (now < first + 3) {
		uint32_t next = clock_now_cs();
		CHECK(next >= now && next <= now + 50);
		now = next;
	}
	CHECK_EQUAL(asked, 0);
	uint64_t a = clock_realtime_ns(), b = clock_realtime_ns(); // the wall clock has been set between the two
	CHECK(asked == 2 && b - a > 1000000000000000000);
	CHECK(clock_now_cs() >= now && clock_now_cs() <= now + 50);
}

static void test_coarse_clock_lags(void)
{
	clock_set_start(clock_monotonic_precise_ns() + 1000000000);
	CHECK_EQUAL(clock_now_cs(), 1);
}

int main(void)
{
	test_goes_on_evenly();
	test_coarse_clock_lags();
	return harness_end();
}
