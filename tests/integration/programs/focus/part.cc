// part.cc -- a library that keeps blocks it asks for in three ways; PART is its name
#include <cstdlib>
#include <cstring>
#include <new>

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

static void *volatile kept;

extern "C" __attribute__((noinline)) void JOIN(PART, _malloc)(long size) { kept = std::malloc(static_cast<size_t>(size)); }

extern "C" __attribute__((noinline)) void JOIN(PART, _strdup)(long size)
{
	static thread_local char text[1 << 16];
	std::memset(text, 'x', static_cast<size_t>(size - 1));
	text[size - 1] = 0;
	kept = strdup(text);
}

extern "C" __attribute__((noinline)) void JOIN(PART, _new)(long size) { kept = ::operator new(static_cast<size_t>(size)); }

extern "C" void part_take(int way, long count, long size)
{
	for (long i = 0; i < count; i++)
		way == 0 ? JOIN(PART, _malloc)(size) : way == 1 ? JOIN(PART, _strdup)(size) : JOIN(PART, _new)(size);
}
