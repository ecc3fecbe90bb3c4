// buddy.c -- a buddy allocator that tells memleak what it does, in a program with three faults
//
//     cc -g -I "$(python -c 'import memleak; print(memleak.include())')" buddy.c -o buddy
//     ./buddy                                    # runs by itself, too: no libmemleak is linked
//     memleak run -o buddy.mlrec ./buddy
//     memleak top buddy.mlrec; memleak pools buddy.mlrec; memleak mismatches buddy.mlrec
//     memleak run -o buddy.mlrec ./buddy 1000    # so many requests a second until it is stopped; then memleak verdict buddy.mlrec
//
// The faults: sessions that are never closed (a leak); small records that stay behind in each arena after a burst (fragmentation); and log lines
// of the buddy allocator that one path hands to the slab of another pool (a mismatched free). They are lost to the buddy allocator, too.
//
// What is true of them, for tests/scenarios/growth, which judges recordings of this program when it has been killed:
/*
   scenario: buddy allocator
   arguments: 1000
   verdict: leak
   rate: 1000 / 10 * 200
   beside: 1000 / 8 * 64
   pool: buddy
   capacity: 32 * 1048576
   used: 1334 * 48
   mismatch: pool_freed_to_other_pool
   mismatches: 1000 / 8

   scenario: buddy allocator, 200 requests a second
   arguments: 200
   verdict: leak
   rate: 200 / 10 * 200
   beside: 200 / 8 * 64
   pool: buddy
   capacity: 32 * 1048576
   used: 1334 * 48
   mismatch: pool_freed_to_other_pool
   mismatches: 200 / 8
   mode: normal
*/
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memleak.h"

#define ARENA_BYTES (1U << 20)
#define ORDERS 16 // 32 bytes … 1 MiB
#define LEAST 32U

struct arena {
	struct arena *next;
	unsigned char *memory;
	unsigned char order[ARENA_BYTES / LEAST]; // of the block that begins there; 0x80: in use
	struct free_block *free[ORDERS];
};

struct free_block {
	struct free_block *next;
};

struct buddy {
	unsigned pool;
	struct arena *arenas;
};

static unsigned order_of(size_t bytes)
{
	unsigned order = 0;
	while ((size_t)LEAST << order < bytes)
		order++;
	return order;
}

static struct arena *new_arena(struct buddy *buddy)
{
	struct arena *arena = calloc(1, sizeof(*arena));
	arena->memory = aligned_alloc(ARENA_BYTES, ARENA_BYTES);
	arena->free[ORDERS - 1] = (struct free_block *)arena->memory;
	arena->free[ORDERS - 1]->next = NULL;
	arena->order[0] = ORDERS - 1;
	arena->next = buddy->arenas;
	buddy->arenas = arena;
	memleak_pool_region(buddy->pool, arena->memory, ARENA_BYTES); // capacity, and whose these addresses are
	return arena;
}

static void *take(struct arena *arena, unsigned wanted)
{
	unsigned order = wanted;
	while (order < ORDERS && !arena->free[order])
		order++;
	if (order == ORDERS)
		return NULL;
	struct free_block *block = arena->free[order];
	arena->free[order] = block->next;
	while (order > wanted) { // the upper half goes back
		order--;
		struct free_block *upper = (struct free_block *)((unsigned char *)block + ((size_t)LEAST << order));
		upper->next = arena->free[order];
		arena->free[order] = upper;
		arena->order[((unsigned char *)upper - arena->memory) / LEAST] = (unsigned char)order;
	}
	arena->order[((unsigned char *)block - arena->memory) / LEAST] = (unsigned char)(0x80 | order);
	return block;
}

static void *buddy_alloc(struct buddy *buddy, size_t bytes)
{
	unsigned order = order_of(bytes);
	void *block = NULL;
	for (struct arena *arena = buddy->arenas; arena && !block; arena = arena->next)
		block = take(arena, order);
	if (!block)
		block = take(new_arena(buddy), order);
	memleak_pool_alloc(buddy->pool, block, bytes); // gives it out
	return block;
}

static void buddy_free(struct buddy *buddy, void *block)
{
	memleak_pool_free(buddy->pool, block); // before it can be given out again
	struct arena *arena = buddy->arenas;
	while ((uintptr_t)arena->memory != ((uintptr_t)block & ~(uintptr_t)(ARENA_BYTES - 1)))
		arena = arena->next;
	size_t at = (size_t)((unsigned char *)block - arena->memory);
	unsigned order = arena->order[at / LEAST] & 0x7F;
	for (; order < ORDERS - 1; order++) { // with its buddy, if that is free and whole
		size_t other = at ^ ((size_t)LEAST << order);
		if (arena->order[other / LEAST] != order)
			break;
		struct free_block **link = &arena->free[order];
		while (*link && (unsigned char *)*link != arena->memory + other)
			link = &(*link)->next;
		if (!*link)
			break;
		*link = (*link)->next;
		arena->order[at / LEAST] = arena->order[other / LEAST] = 0xFF;
		at = at < other ? at : other;
	}
	struct free_block *merged = (struct free_block *)(arena->memory + at);
	merged->next = arena->free[order];
	arena->free[order] = merged;
	arena->order[at / LEAST] = (unsigned char)order;
}

// ---- another pool: slots of one size -------------------------------------------------------------------

#define SLOTS 1024
struct slab {
	unsigned pool;
	unsigned char slot[SLOTS][64];
	void *free[SLOTS];
	unsigned free_count, refused;
};

static struct slab *new_slab(void)
{
	struct slab *slab = calloc(1, sizeof(*slab));
	slab->pool = memleak_pool("line slab");
	memleak_pool_region(slab->pool, slab->slot, sizeof(slab->slot));
	for (unsigned i = 0; i < SLOTS; i++)
		slab->free[slab->free_count++] = slab->slot[i];
	return slab;
}

static void *slab_alloc(struct slab *slab)
{
	void *slot = slab->free_count ? slab->free[--slab->free_count] : NULL;
	memleak_pool_alloc(slab->pool, slot, sizeof(slab->slot[0]));
	return slot;
}

static void slab_free(struct slab *slab, void *slot)
{
	memleak_pool_free(slab->pool, slot);
	if ((uintptr_t)slot - (uintptr_t)slab->slot >= sizeof(slab->slot)) { // not ours: kept out of harm's way
		slab->refused++;
		return;
	}
	slab->free[slab->free_count++] = slot;
}

// ---- the program ---------------------------------------------------------------------------------------

static struct buddy pool;

__attribute__((noinline)) static char *open_session(unsigned number)
{
	char *session = buddy_alloc(&pool, 200); // blamed
	return session ? memset(session, (int)number, 200) : NULL;
}

__attribute__((noinline)) static void *load_page(void) { return buddy_alloc(&pool, 4096); }

__attribute__((noinline)) static void *keep_record(void)
{
	return buddy_alloc(&pool, 48); // pins
}

__attribute__((noinline)) static char *format_line(unsigned number)
{
	char *line = buddy_alloc(&pool, 64); // leaks, too
	snprintf(line, 64, "request %u", number);
	return line;
}

__attribute__((noinline)) static void drop_line(struct slab *slab, char *line, int on_the_wrong_path)
{
	if (on_the_wrong_path)
		slab_free(slab, line); // freed the wrong way
	else
		buddy_free(&pool, line);
}

enum { PAGES = 8000, EACH = 6, REQUESTS = 40000, FORGOTTEN = 10, WRONG_WAY = 8 }; // one session in ten, one line in eight
static void *page[PAGES], *record[PAGES / EACH + 1];

static void burst(void) // leaves records behind in each arena
{
	for (unsigned i = 0; i < PAGES; i++) {
		page[i] = load_page();
		if (i % EACH == 0)
			record[i / EACH] = keep_record();
	}
	for (unsigned i = 0; i < PAGES; i++)
		buddy_free(&pool, page[i]);
}

static void serve(struct slab *slab, unsigned number)
{
	char *session = open_session(number), *line = format_line(number);
	void *slot = slab_alloc(slab);
	drop_line(slab, line, number % WRONG_WAY == 0);
	slab_free(slab, slot);
	if (number % FORGOTTEN)
		buddy_free(&pool, session);
}

static double now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void serve_for_ever(struct slab *slab, double per_second)
{
	double began = now();
	for (unsigned number = 0;; nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL))
		for (; number < (now() - began) * per_second; number++)
			serve(slab, number);
}

int main(int count, char **words)
{
	struct slab *slab = new_slab();
	pool.pool = memleak_pool("buddy");
	burst();
	if (count > 1)
		serve_for_ever(slab, atof(words[1]));
	for (unsigned number = 0; number < REQUESTS; number++)
		serve(slab, number);
	printf("%u requests, %u lines refused by the slab, %s\n", (unsigned)REQUESTS, slab->refused, record[0] ? "done" : "?");
	return 0;
}
