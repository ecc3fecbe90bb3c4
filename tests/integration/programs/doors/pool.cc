// pool.cc -- an operator new and delete of the library's own, cut from a static pool, and who uses them
//
// make_pooled(BYTES) keeps a block, drop_pooled(BYTES) makes one and lets it go; pool_news() and pool_deletes() count the calls
// of the operators. Needs no C++ library.
#include <cstddef>
#include <cstdlib>

alignas(64) static char pool[4 << 20];
static size_t used;
static long news, deletes;
static void *volatile kept;

void *operator new(size_t bytes)
{
	news++;
	size_t from = used;
	used += (bytes + 16) & ~(size_t)15;
	if (used > sizeof(pool))
		abort();
	return pool + from;
}
void operator delete(void *) noexcept { deletes++; }
void operator delete(void *, size_t) noexcept { deletes++; }

extern "C" long pool_news() { return news; }
extern "C" long pool_deletes() { return deletes; }
extern "C" __attribute__((noinline, noclone)) void make_pooled(size_t bytes) { kept = ::operator new(bytes); }
extern "C" __attribute__((noinline, noclone)) void drop_pooled(size_t bytes) { ::operator delete(kept = ::operator new(bytes)); }
