// bursts.c -- allocates so often in each millisecond, for so long; every 200th block of these stays
#include <stdlib.h>
#include <time.h>

#define KEPT_BYTES 77

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// How many blocks stay.
long burst(long each_ms, double seconds)
{
	long calls = 0, kept = 0;
	for (double began = now(), slot = began; now() < began + seconds; slot += 0.001) {
		for (long i = 0; i < each_ms; i++) {
			void *volatile block = malloc(++calls % 200 ? 48 : KEPT_BYTES);
			if (calls % 200)
				free(block);
			else
				kept++;
		}
		double ahead = slot + 0.001 - now();
		if (ahead > 0)
			nanosleep(&(struct timespec){.tv_nsec = (long)(1e9 * ahead)}, NULL);
		else
			slot = now(); // the machine is busy: what was missed is not made up for
	}
	return kept;
}
