// new.cc -- every form of operator new, each from a function of its own, with a ledger
//
// usage: new [THREADS]. Also throws through frames, fails to allocate, and fills containers. Prints
// "site NAME COUNT BYTES" for what it keeps.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct Small {
	char bytes[24];
};
struct alignas(256) Aligned {
	char bytes[512];
};

static void *volatile kept;
static volatile size_t huge = (size_t)1 << 62;

#define SITE(name, expression)                                                                     \
	extern "C" __attribute__((noinline, noclone)) void make_##name(void) { kept = (void *)(expression); }
SITE(plain, new Small)
SITE(array, new char[100])
SITE(nothrow, new (std::nothrow) Small)
SITE(nothrow_array, new (std::nothrow) char[101])
SITE(aligned, new Aligned)
SITE(aligned_array, new Aligned[3])
SITE(aligned_nothrow, new (std::nothrow) Aligned)
SITE(direct, ::operator new(77))
SITE(malloc, malloc(55))

static void (*const sites[])(void) = {make_plain, make_array, make_nothrow, make_nothrow_array, make_aligned,
				      make_aligned_array, make_aligned_nothrow, make_direct, make_malloc};

extern "C" __attribute__((noinline, noclone)) int throws(int depth)
{
	std::string text(100 + depth, 'x');
	std::vector<int> numbers(depth + 1, 3);
	if (depth == 0)
		throw std::runtime_error(text);
	return throws(depth - 1) + numbers[0];
}

extern "C" __attribute__((noinline, noclone)) int bad_alloc_caught(void)
{
	int caught = 0;
	try {
		kept = new char[huge];
	} catch (const std::bad_alloc &) {
		caught++;
	}
	try {
		kept = ::operator new(huge, std::align_val_t(64));
	} catch (const std::bad_alloc &) {
		caught++;
	}
	caught += new (std::nothrow) char[huge] == nullptr;
	return caught;
}

static int handled;
static void handler()
{
	if (++handled == 3)
		std::set_new_handler(nullptr);
}

static void work(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		for (auto site : sites)
			site();
		delete new Small;
		delete[] new std::string[5];
		delete new Aligned;
		std::map<std::string, std::vector<int>> containers;
		for (int k = 0; k < 10; k++)
			containers[std::string(30, 'a' + k)].assign(k, k);
	}
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 0, rounds = 500;
	std::vector<std::thread> running;
	for (int i = 0; i < threads; i++)
		running.emplace_back(work, rounds);
	work(rounds);
	for (auto &thread : running)
		thread.join();
	int caught = 0;
	for (int i = 0; i < 200; i++)
		try {
			throws(i % 20);
		} catch (const std::exception &error) {
			caught += std::string(error.what()).size() == 100;
		}
	printf("caught %d, bad_alloc %d", caught, bad_alloc_caught());
	std::set_new_handler(handler);
	caught = bad_alloc_caught();
	printf(" %d, handler ran %d\n", caught, handled);
	static const struct {
		const char *name;
		int bytes;
	} sizes[] = {{"plain", 24}, {"array", 100}, {"nothrow", 24}, {"nothrow_array", 101}, {"aligned", 512},
		     {"aligned_array", 1536}, {"aligned_nothrow", 512}, {"direct", 77}, {"malloc", 55}};
	for (auto &size : sizes)
		printf("site make_%s %d %d\n", size.name, (threads + 1) * rounds, (threads + 1) * rounds * size.bytes);
	return 0;
}
