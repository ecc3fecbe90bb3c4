// fixture.h -- random numbers, statistics with stated odds, and a recording to work in
#ifndef FIXTURE_H
#define FIXTURE_H

#include "harness.h"

#include "recording.h"
#include "rows.h"
#include "sampler.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- chance --------------------------------------------------------------------------------------

static inline uint64_t next_random(uint64_t *state) // xorshift64*
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545F4914F6CDD1D;
}

static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
	return (uint64_t)((unsigned __int128)next_random(state) * limit >> 64);
}

// How many standard deviations `seen` is away from the mean of a binomial count.
static inline double binomial_z(double seen, double trials, double p)
{
	return (seen - trials * p) / sqrt(trials * p * (1 - p));
}

// The same for a chi-squared value (Wilson and Hilferty): above 4 once in 30,000 right programs.
static inline double chi_squared_z(double value, double freedom)
{
	return (cbrt(value / freedom) - (1 - 2 / (9 * freedom))) / sqrt(2 / (9 * freedom));
}

// ---- recordings ----------------------------------------------------------------------------------

static inline struct recording_options fixture_options(const char *directory, uint32_t start_bytes)
{
	return (struct recording_options){
	    .interval = SAMPLER_FULL,
	    .sample_bytes = SAMPLER_DEFAULT_BYTES,
	    .seed = 1,
	    .cap_bytes = start_bytes > RECORDING_CAP_DEFAULT ? start_bytes : RECORDING_CAP_DEFAULT,
	    .start_bytes = start_bytes,
	    .mmap_always_bytes = 64U << 10,
	    .directory = directory,
	};
}

// Where temporary directories are made; MEMLEAK_TEST_TMPFS names another place on tmpfs.
static inline const char *tmpfs(void)
{
	const char *asked = getenv("MEMLEAK_TEST_TMPFS");
	return asked ? asked : "/dev/shm";
}

// A 0700 directory of ours on tmpfs; the program is skipped where there is none.
static inline const char *temporary_directory(void)
{
	static char paths[16][128];
	static unsigned used;
	char *path = paths[used++ % 16];
	snprintf(path, sizeof(paths[0]), "%s/memleak-test-XXXXXX", tmpfs());
	if (!mkdtemp(path)) {
		puts("no tmpfs at /dev/shm");
		exit(77);
	}
	return path;
}

static inline void remove_directory(const char *path)
{
	DIR *directory = opendir(path);
	for (struct dirent *entry; directory && (entry = readdir(directory));)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
	rmdir(path);
}

// In private memory: a file that may hold no byte will not do.
static inline void open_private(uint32_t start_bytes)
{
	const char *why = NULL, *directory = temporary_directory();
	struct recording_options options = fixture_options(directory, start_bytes);
	struct rlimit limit, none;
	getrlimit(RLIMIT_FSIZE, &limit);
	none = (struct rlimit){0, limit.rlim_max};
	setrlimit(RLIMIT_FSIZE, &none);
	CHECK(recording_open(&options, &why));
	setrlimit(RLIMIT_FSIZE, &limit);
	CHECK(why != NULL && recording.is_private);
	remove_directory(directory);
	rows_open();
}

// ---- threads -------------------------------------------------------------------------------------

// Holds each of `parties` threads until all of them came for the `round`th time (from 1 on), and lets
// them go within nanoseconds of each other if there is a processor for each: now one first, now another.
static inline void meet(uint32_t *met, uint32_t parties, uint32_t round)
{
	__atomic_fetch_add(met, 1, __ATOMIC_ACQ_REL);
	if (load_acquire(met) >= parties * round) // the last one sees it first
		for (unsigned delay = round % 256; delay; delay--)
			__asm__ volatile("");
	for (unsigned spins = 0; load_acquire(met) < parties * round; spins++)
		if (spins > 2000)
			sched_yield();
}

// Runs `body` in `threads` threads at once; each receives its number, from 0 on, as its argument.
static inline void in_threads(unsigned threads, void *(*body)(void *))
{
	pthread_t thread[64];
	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, body, (void *)(uintptr_t)i) != 0)
			abort();
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
}

#endif
