// pairs.cc -- COUNT pairs of new and delete, or of a pool's: pairs COUNT [pool]
#include <cstdlib>
#include <cstring>
#include <new>

#include "memleak.h"

int main(int argc, char **argv)
{
	static unsigned char block[64];
	unsigned pool = memleak_pool("pairs");
	long count = argc > 1 ? std::atol(argv[1]) : 0;
	bool of_pool = argc > 2;
	for (long i = 0; i < count; i++) {
		if (of_pool) {
			memleak_pool_alloc(pool, block, 40);
			memleak_pool_free(pool, block);
		} else {
			void *p = ::operator new(40);
			asm volatile("" : "+r"(p));
			::operator delete(p);
		}
	}
	return 0;
}
