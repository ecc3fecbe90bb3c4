// pool_new.cc -- a program with an operator new of its own, cut from a static pool: malloc is not asked
//
// Prints "site NAME COUNT BYTES" for what it keeps.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>

alignas(64) static char pool[16 << 20];
static size_t used;
static void *volatile kept;

__attribute__((noinline)) void *operator new(size_t bytes)
{
	if (bytes > sizeof(pool) - used)
		throw std::bad_alloc();
	void *p = pool + used;
	used += (bytes + 16) & ~(size_t)15;
	return p;
}
__attribute__((noinline)) void operator delete(void *p) noexcept { kept = p; }
__attribute__((noinline)) void operator delete(void *p, size_t) noexcept { kept = p; }

extern "C" __attribute__((noinline, noclone)) void make_pooled(size_t bytes) { kept = ::operator new(bytes); }
extern "C" __attribute__((noinline, noclone)) void make_malloc(void) { kept = malloc(55); }
extern "C" __attribute__((noinline, noclone)) void drop(void) { ::operator delete(::operator new(40)); }

int main()
{
	long bytes = 0;
	int refused = 0;
	for (int i = 0; i < 1000; i++) {
		make_pooled(i % 100);
		bytes += i % 100;
		make_malloc();
		drop();
	}
	try {
		make_pooled((size_t)1 << 40);
	} catch (const std::bad_alloc &) {
		refused = 1;
	}
	printf("refused %d\nsite make_pooled 1000 %ld\nsite make_malloc 1000 55000\n", refused, bytes);
	return 0;
}
