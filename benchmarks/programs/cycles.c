// cycles.c -- prints how many cycles of the time stamp counter go by in a nanosecond
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static double now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

int main(void)
{
	double began_ns = now_ns(), ended_ns;
	unsigned long long began = __rdtsc(), ended;
	do {
		ended = __rdtsc();
		ended_ns = now_ns();
	} while (ended_ns - began_ns < 1e8);
	printf("%.6f\n", (ended - began) / (ended_ns - began_ns));
	return 0;
}
