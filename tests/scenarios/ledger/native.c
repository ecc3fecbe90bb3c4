// native.c -- what resident memory can be made of: a program for the ledger
//
// usage: native WORKLOAD; then a line on standard input: "trim" calls malloc_trim(0) and prints resident bytes before and
// after it, "grow" makes more of the same, the end of input ends it. It prints a line when it has what it is to have:
// "NAME BYTES" pairs that it knows of.
//   threads   four arenas filled with blocks and mostly freed, a block in 64 kept
//   one       the same in the first heap, one block in 16 kept
//   random    the same, one in 16 by chance
//   small     small blocks only, all freed but one in 1,000: they stand in the lists of fast blocks
//   cluster   blocks of 400 bytes; the second half of what was asked for is freed, and a few are kept at the end
//   leak      blocks that nobody frees
//   files     a mapped file, a shared mapping, a memfd
//   outside   a heap that a library has of the kernel directly
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *own_heap(size_t bytes); // of own.c

#define THREADS 4
static pthread_barrier_t done;

static void *filled(size_t bytes)
{
	void *p = malloc(bytes);
	memset(p, 1, bytes);
	return p;
}

static size_t fill_and_free(unsigned seed, int blocks, int keep, size_t least, size_t more, bool by_chance)
{
	void **p = malloc(sizeof(*p) * (size_t)blocks);
	bool *is_kept = calloc((size_t)blocks, sizeof(*is_kept));
	size_t kept = 0;
	for (int i = 0; i < blocks; i++) {
		seed = seed * 1103515245u + 12345;
		size_t bytes = least + (more ? (seed >> 16) % more : 0);
		p[i] = filled(bytes);
		is_kept[i] = (by_chance ? rand() : i) % keep == 0;
		if (is_kept[i])
			kept += bytes;
	}
	for (int i = 0; i < blocks; i++)
		if (!is_kept[i])
			free(p[i]);
	free(is_kept);
	free(p);
	return kept;
}

static void *work(void *seed)
{
	size_t kept = fill_and_free((unsigned)(size_t)seed, 80000, 64, 100, 900, false);
	pthread_barrier_wait(&done);
	pthread_barrier_wait(&done);
	return (void *)kept;
}

static void *wait(void *unused) // so that the core has a thread, and asks the C library
{
	pthread_barrier_wait(&done);
	pthread_barrier_wait(&done);
	return unused;
}

static size_t cluster(void)
{
	enum { BLOCKS = 250000 };
	void **p = malloc(sizeof(*p) * BLOCKS);
	for (int i = 0; i < BLOCKS; i++)
		p[i] = filled(400);
	for (int i = BLOCKS / 2; i < BLOCKS; i++)
		if (i % 1000)
			free(p[i]);
	free(p);
	return 400 * (BLOCKS / 2 + BLOCKS / 2000);
}

static size_t files(const char *path)
{
	enum { FILE_BYTES = 64 << 20, SHARED_BYTES = 48 << 20 };
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600), memory = memfd_create("ledger", 0);
	if (fd < 0 || memory < 0 || ftruncate(fd, FILE_BYTES) || ftruncate(memory, SHARED_BYTES))
		exit(1);
	memset(mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), 1, FILE_BYTES);
	memset(mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0), 1, SHARED_BYTES);
	char *anonymous = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(anonymous, 1, SHARED_BYTES / 2);
	char *mine = mmap(NULL, 40 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(mine, 1, 20 << 20); // half of it is never touched
	close(fd);
	close(memory);
	return FILE_BYTES + SHARED_BYTES + SHARED_BYTES / 2 + (20 << 20);
}

static long resident(void)
{
	char line[256];
	long kib = 0;
	FILE *status = fopen("/proc/self/status", "r");
	while (status && fgets(line, sizeof(line), status))
		if (!strncmp(line, "VmRSS:", 6))
			kib = atol(line + 6);
	fclose(status);
	return kib << 10;
}

static size_t grow(const char *workload, const char *path)
{
	if (!strcmp(workload, "one"))
		return fill_and_free(7, 200000, 16, 100, 900, false);
	if (!strcmp(workload, "random"))
		return fill_and_free(7, 200000, 16, 100, 900, true);
	if (!strcmp(workload, "small"))
		return fill_and_free(7, 1000000, 1000, 48, 0, false);
	if (!strcmp(workload, "cluster"))
		return cluster();
	if (!strcmp(workload, "leak"))
		return fill_and_free(7, 100000, 1, 100, 900, false);
	if (!strcmp(workload, "files"))
		return files(path);
	if (!strcmp(workload, "outside")) {
		memset(own_heap(64 << 20), 1, 64 << 20);
		return 64 << 20;
	}
	return 0;
}

int main(int count, char **words)
{
	const char *workload = words[1], *path = count > 2 ? words[2] : "";
	bool threads = !strcmp(workload, "threads");
	int others = threads ? THREADS : 1;
	pthread_t thread;
	pthread_barrier_init(&done, NULL, (unsigned)others + 1);
	for (int i = 0; i < others; i++)
		pthread_create(&thread, NULL, threads ? work : wait, (void *)(size_t)(i + 1));
	pthread_barrier_wait(&done);
	size_t kept = grow(workload, path);
	printf("ready %zu\n", kept);
	fflush(stdout);
	char line[80];
	while (fgets(line, sizeof(line), stdin)) {
		long before = resident();
		if (!strncmp(line, "trim", 4))
			malloc_trim(0);
		else
			grow(workload, path);
		printf("%ld %ld\n", before, resident());
		fflush(stdout);
	}
	_exit(0);
}
