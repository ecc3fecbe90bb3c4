// new_pairs.cc -- COUNT pairs of operator new and operator delete
#include <cstdlib>
#include <new>

int main(int argc, char **argv)
{
	for (long i = argc > 1 ? std::atol(argv[1]) : 0; i > 0; i--) {
		void *p = ::operator new(40);
		asm volatile("" : "+r"(p));
		::operator delete(p);
	}
	return 0;
}
