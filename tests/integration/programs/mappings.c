// mappings.c -- random mmap, munmap, mremap and MAP_FIXED with a ledger of pages
//
// usage: mappings OPERATIONS SEED. Each page of an arena remembers the mapping it belongs to; a piece is a run
// of pages of one mapping. Prints "site NAME PIECES BYTES" per function at the end.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE 4096
#define PAGES 8192
#define LEAST 16 // pages: 64 KiB, what the tracer counts from
#define SITES 3

static char *arena; // reserved, then mapped over with MAP_FIXED
static struct page {
	unsigned mapping; // 0 = none
	int site;
} page[PAGES];
static unsigned mappings;
static unsigned long long state;

static unsigned next(unsigned below)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (unsigned)(state >> 20) % below;
}

static void own(unsigned first, unsigned pages, unsigned mapping, int site)
{
	for (unsigned i = first; i < first + pages; i++)
		page[i] = (struct page){mapping, site};
}

__attribute__((noinline, noclone)) void *map_fixed(void *at, size_t bytes)
{
	void *p = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	if (p != at)
		abort();
	return p;
}

__attribute__((noinline, noclone)) void *map_moved(void *from, size_t old_bytes, size_t bytes, void *to)
{
	void *p = mremap(from, old_bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (p != to)
		abort();
	return p;
}

__attribute__((noinline, noclone)) void *map_reserve(void *at, size_t bytes)
{
	return mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);
}

static unsigned run_of(unsigned first) // pages from here on that belong to the same mapping
{
	unsigned n = 1;
	while (first + n < PAGES && page[first + n].mapping == page[first].mapping)
		n++;
	return n;
}

static void step(void)
{
	unsigned pages = LEAST + next(64), first = next(PAGES - pages), action = next(10);
	if (action < 5) {
		map_fixed(arena + first * PAGE, (size_t)pages * PAGE);
		own(first, pages, ++mappings, 0);
	} else if (action == 5) { // too small to count; what was there is gone
		map_fixed(arena + first * PAGE, (LEAST - 1) * PAGE);
		own(first, LEAST - 1, 0, 0);
	} else if (action == 6) { // reserved again
		map_reserve(arena + first * PAGE, (size_t)pages * PAGE);
		own(first, pages, 0, 0);
	} else if (action < 9) { // anything, whole mappings or parts, holes included
		if (munmap(arena + first * PAGE, (size_t)pages * PAGE))
			abort();
		own(first, pages, 0, 0);
	} else { // a whole piece moves and changes its size
		unsigned from = next(PAGES);
		if (!page[from].mapping)
			return;
		while (from && page[from - 1].mapping == page[from].mapping)
			from--;
		unsigned old = run_of(from), to = next(PAGES - pages);
		if (to + pages > from && to < from + old)
			return;
		map_moved(arena + from * PAGE, (size_t)old * PAGE, (size_t)pages * PAGE, arena + to * PAGE);
		own(from, old, 0, 0);
		own(to, pages, ++mappings, 1);
	}
}

int main(int argc, char **argv)
{
	long operations = argc > 1 ? atol(argv[1]) : 10000;
	state = 88172645463325252ULL + (argc > 2 ? strtoull(argv[2], NULL, 10) : 1) * 2654435761u;
	arena = map_reserve(NULL, (size_t)PAGES * PAGE);
	for (long i = 0; i < operations; i++)
		step();
	long pieces[SITES] = {0}, bytes[SITES] = {0};
	for (unsigned i = 0; i < PAGES; i += run_of(i))
		if (page[i].mapping) {
			pieces[page[i].site]++;
			bytes[page[i].site] += (long)run_of(i) * PAGE;
		}
	printf("site map_fixed %ld %ld\nsite map_moved %ld %ld\n", pieces[0], bytes[0], pieces[1], bytes[1]);
	return 0;
}
