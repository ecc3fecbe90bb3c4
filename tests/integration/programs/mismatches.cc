// mismatches.cc -- three sites for each way of freeing a block otherwise than it was allocated, and for each right way
//
//     mismatches wrong|right COUNT
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "memleak.h"

template <typename T> static T *hide(T *p) // from the compiler, which knows pairs
{
	asm volatile("" : "+r"(p));
	return p;
}

// A ring of slots: what a pool hands out, in turn.
struct ring {
	unsigned pool = 0;
	alignas(64) unsigned char slot[256][64];
	unsigned next = 0;

	void begin(const char *name)
	{
		pool = memleak_pool(name);
		memleak_pool_region(pool, slot, sizeof(slot));
		next = 1;
	}
	void *give(unsigned long bytes)
	{
		void *p = slot[next];
		next = next == 255 ? 1 : next + 1;
		memleak_pool_alloc(pool, p, bytes);
		return p;
	}
};

static ring first, second;
static unsigned heap_pool; // hands out malloc's own blocks, and says that it does all of them

#define SITES(name)                                                                                 \
	static void name##_all(long count, bool wrong)                                              \
	{                                                                                           \
		name<1>(count, wrong);                                                              \
		name<2>(count, wrong);                                                              \
		name<3>(count, wrong);                                                              \
	}
#define SITE template <int N> [[gnu::noinline, gnu::noclone]] static void

SITE plant_pool_freed_by_free(long count, bool wrong)
{
	for (long i = 0; i < count; i++) {
		void *p = hide(malloc(40));
		memleak_pool_alloc(heap_pool, p, 40);
		if (!wrong)
			memleak_pool_free(heap_pool, p);
		free(p);
	}
}
SITES(plant_pool_freed_by_free)

SITE plant_pool_freed_to_other_pool(long count, bool wrong)
{
	for (long i = 0; i < count; i++) {
		void *p = first.give(32);
		if (wrong)
			memleak_pool_free(second.pool, p);
		memleak_pool_free(first.pool, p);
	}
}
SITES(plant_pool_freed_to_other_pool)

SITE plant_malloc_freed_to_pool(long count, bool wrong)
{
	for (long i = 0; i < count; i++) {
		void *p = hide(malloc(48));
		if (wrong)
			memleak_pool_free(first.pool, p);
		free(p);
	}
}
SITES(plant_malloc_freed_to_pool)

SITE plant_pool_wrong_size(long count, bool wrong)
{
	for (long i = 0; i < count; i++) {
		void *p = second.give(24);
		memleak_pool_free_sized(second.pool, p, wrong ? 32 : 24);
	}
}
SITES(plant_pool_wrong_size)

SITE plant_pool_freed_twice(long count, bool wrong)
{
	for (long i = 0; i < count; i++) {
		void *p = second.give(16);
		memleak_pool_free(second.pool, p);
		if (wrong)
			memleak_pool_free(second.pool, p);
	}
}
SITES(plant_pool_freed_twice)

SITE plant_malloc_delete(long count, bool wrong)
{
	for (long i = 0; i < count; i++) {
		void *p = hide(malloc(56));
		if (wrong)
			::operator delete(p);
		else
			free(p);
	}
}
SITES(plant_malloc_delete)

SITE plant_new_free(long count, bool wrong)
{
	for (long i = 0; i < count; i++) {
		char *p = hide(N == 3 ? new (std::nothrow) char[72] : new char[72]);
		if (wrong)
			free(p);
		else
			delete[] p;
	}
}
SITES(plant_new_free)

SITE plant_delete_wrong_size(long count, bool wrong)
{
	for (long i = 0; i < count; i++) {
		void *p = hide(::operator new(N * 16));
		::operator delete(p, static_cast<std::size_t>(wrong ? N * 16 + 8 : N * 16));
	}
}
SITES(plant_delete_wrong_size)

int main(int argc, char **argv)
{
	bool wrong = argc > 1 && strcmp(argv[1], "wrong") == 0;
	long count = argc > 2 ? atol(argv[2]) : 1000;
	first.begin("first");
	second.begin("second");
	heap_pool = memleak_pool("heap");
	char *bottom = static_cast<char *>(malloc(16));
	memleak_pool_region(heap_pool, bottom - 1, 64UL << 20); // what malloc hands out here, and more
	void (*const plants[])(long, bool) = {
		plant_pool_freed_by_free_all, plant_pool_freed_to_other_pool_all, plant_malloc_freed_to_pool_all, plant_pool_wrong_size_all,
		plant_pool_freed_twice_all, plant_malloc_delete_all, plant_new_free_all, plant_delete_wrong_size_all,
	};
	for (auto plant : plants)
		plant(count, wrong);
	puts("done");
	return 0;
}
