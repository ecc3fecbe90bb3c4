// cpp_forms.cc -- a C++ library that keeps objects and containers of known sizes
//
// keep(ROUNDS) leaves them behind, release() frees every other one, ledger() prints "site NAME COUNT BYTES".
#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct Small {
	char bytes[40];
};
struct alignas(128) Aligned {
	char bytes[256];
};

#define SITE extern "C" __attribute__((noinline, noclone, visibility("hidden")))

static std::vector<Small *> smalls;
static std::vector<char *> arrays;
static std::vector<Aligned *> aligned;
static std::vector<std::vector<int>> vectors;
static std::vector<std::string> strings;

SITE Small *keep_new() { return new Small; }
SITE char *keep_array() { return new char[333]; }
SITE char *keep_nothrow() { return new (std::nothrow) char[222]; }
SITE Aligned *keep_aligned() { return new Aligned; }
SITE void keep_vector(std::vector<int> *v) { v->reserve(100); }
SITE void keep_string(std::string *s) { s->reserve(150); }

static long count[6];

extern "C" int keep(int rounds)
{
	// Room first, so that the containers of containers allocate here and not in the sites.
	smalls.reserve(smalls.size() + rounds), arrays.reserve(arrays.size() + 2 * rounds);
	aligned.reserve(aligned.size() + rounds), vectors.resize(rounds), strings.resize(rounds);
	for (int i = 0; i < rounds; i++) {
		smalls.push_back(keep_new());
		arrays.push_back(keep_array());
		arrays.push_back(keep_nothrow());
		aligned.push_back(keep_aligned());
		keep_vector(&vectors[i]);
		keep_string(&strings[i]);
	}
	for (long &n : count)
		n = rounds;
	return rounds;
}

// To be called once, with everything from one keep().
extern "C" void release()
{
	for (size_t i = 0; i < smalls.size(); i += 2) {
		delete smalls[i];
		delete[] arrays[2 * i], delete[] arrays[2 * i + 1];
		delete aligned[i];
		std::vector<int>().swap(vectors[i]);
		std::string().swap(strings[i]);
		for (long &n : count)
			n--;
	}
}

extern "C" void ledger()
{
	static const char *const names[] = {"new", "array", "nothrow", "aligned", "vector", "string"};
	static const long bytes[] = {40, 333, 222, 256, 400, 151};
	for (int i = 0; i < 6; i++)
		printf("site keep_%s %ld %ld\n", names[i], count[i], count[i] * bytes[i]);
	fflush(stdout);
}
