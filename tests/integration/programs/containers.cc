// containers.cc -- C++ as programs use it: whatever allocates in the library, freed as it should be
#include <algorithm>
#include <any>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#ifdef REPLACED // with a header before each block, and a size rounded up
static_assert(sizeof(std::size_t) == 8);
void *operator new(std::size_t n)
{
	char *p = static_cast<char *>(std::malloc((n + 31) / 16 * 16));
	if (!p)
		throw std::bad_alloc();
	return p + (REPLACED > 1 ? 16 : 0);
}
void operator delete(void *p) noexcept { std::free(p ? static_cast<char *>(p) - (REPLACED > 1 ? 16 : 0) : nullptr); }
void operator delete(void *p, std::size_t) noexcept { operator delete(p); }
#endif

struct base {
	virtual ~base() = default;
	std::string name = std::string(40, 'b');
};
struct derived : base {
	std::vector<int> more = std::vector<int>(100);
};
struct alignas(64) wide {
	char bytes[200];
};
struct own { // its own operators, on malloc
	void *operator new(std::size_t n) { return std::malloc(n); }
	void operator delete(void *p) { std::free(p); }
	char bytes[70];
};

static void throws(int n)
{
	std::string text(100 + n % 50, 'x');
	throw std::runtime_error(text);
}

static unsigned long use(int rounds)
{
	unsigned long sum = 0;
	for (int i = 0; i < rounds; i++) {
		std::map<int, std::string> ordered;
		std::unordered_map<std::string, std::vector<int>> hashed;
		std::deque<std::string> queue;
		for (int k = 0; k < 30; k++) {
			ordered[k] = std::string(20 + k, 'm');
			hashed[std::to_string(k) + "a longer key than fits in place"].assign(k, i);
			queue.push_back(std::string(k, 'q'));
		}
		std::vector<std::string> sorted(queue.begin(), queue.end());
		std::stable_sort(sorted.begin(), sorted.end());
		std::inplace_merge(sorted.begin(), sorted.begin() + 15, sorted.end());
		std::unique_ptr<base> one(new derived);
		std::shared_ptr<base> two = std::make_shared<derived>(), three(new derived);
		std::unique_ptr<wide> aligned(new wide);
		std::unique_ptr<wide[]> several(new wide[3]);
		std::unique_ptr<std::string[]> strings(new std::string[7]);
		std::unique_ptr<char, void (*)(void *)> text(static_cast<char *>(std::malloc(100)), std::free);
		delete new (std::nothrow) int[1][0];
		delete new own;
		char *empty = new char[0];
		delete[] empty;
		std::function<int()> bound = [ordered, i] { return static_cast<int>(ordered.size()) + i; };
		std::any held = sorted;
		std::ostringstream out;
		out << bound() << ' ' << sorted.size() << ' ' << std::any_cast<std::vector<std::string>>(held).size();
		int status;
		char *demangled = abi::__cxa_demangle("_ZNSt6vectorIiSaIiEE9push_backEOi", nullptr, nullptr, &status);
		sum += out.str().size() + (demangled ? 1 : 0);
		std::free(demangled);
		char *copy = strdup("as C does it");
		std::free(copy);
		try {
			throws(i);
		} catch (const std::exception &error) {
			std::exception_ptr again = std::current_exception();
			sum += std::string(error.what()).size();
		}
		std::pmr::monotonic_buffer_resource arena;
		std::pmr::unsynchronized_pool_resource pool;
		std::pmr::vector<std::pmr::string> inside(&arena), pooled(&pool);
		for (int k = 0; k < 20; k++)
			inside.emplace_back("a string that is longer than fits in place"), pooled.emplace_back("another such string, as long");
	}
	return sum;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? std::atoi(argv[1]) : 100;
	auto other = std::async(std::launch::async, use, rounds);
	std::thread third([rounds] { use(rounds / 2); });
	unsigned long sum = use(rounds) + other.get();
	third.join();
	std::cout << sum << '\n';
	return 0;
}
