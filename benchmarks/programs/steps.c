// steps.c -- a thread that is always busy and allocates so often in each millisecond: EACH_MS SECONDS, EACH_MS SECONDS, …
//
// usage: steps EACH_MS SECONDS [EACH_MS SECONDS …]
//
// Blocks of 48 bytes, freed at once. It says "ready", and begins when something comes on standard input.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void busy(long each_ms, double seconds)
{
	for (double began = now(), slot = began; slot < began + seconds; slot += 0.001) {
		for (long i = 0; i < each_ms; i++) {
			void *volatile block = malloc(48);
			free(block);
		}
		while (now() < slot + 0.001)
			;
	}
}

int main(int argc, char **argv)
{
	puts("ready");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	for (int i = 1; i + 1 < argc; i += 2)
		busy(atol(argv[i]), atof(argv[i + 1]));
	return 0;
}
