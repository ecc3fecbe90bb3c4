// pool_user.cc -- uses the operator new of pool_library.cc; prints "site NAME COUNT BYTES" of what it keeps
#include <cstdio>
#include <new>

static void *volatile kept;

extern "C" __attribute__((noinline, noclone)) void make_pooled(size_t bytes) { kept = ::operator new(bytes); }
extern "C" __attribute__((noinline, noclone)) void drop(void) { ::operator delete(kept = ::operator new(40)); }

int main()
{
	long bytes = 0;
	for (int i = 0; i < 1000; i++) {
		make_pooled((size_t)(i % 100));
		bytes += i % 100;
		drop();
	}
	printf("site make_pooled 1000 %ld\n", bytes);
	return 0;
}
