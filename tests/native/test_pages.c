// test_pages.c -- what is told of a page's protection is what holds
#include "fixture.h"

#include "pages.h"

#include <sys/mman.h>

static unsigned char *map(int protection)
{
	unsigned char *at = mmap(NULL, 3 * PAGE_BYTES, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(at != MAP_FAILED);
	return at;
}

int main(void)
{
	unsigned char *at = map(PROT_READ | PROT_WRITE);
	at[PAGE_BYTES] = 7;
	CHECK(mprotect(at + PAGE_BYTES, PAGE_BYTES, PROT_READ) == 0);
	CHECK(pages_writable((uintptr_t)at) && pages_writable((uintptr_t)at + PAGE_BYTES - 1));
	CHECK(!pages_writable((uintptr_t)at + PAGE_BYTES) && !pages_writable((uintptr_t)at + 2 * PAGE_BYTES - 8));
	CHECK(pages_writable((uintptr_t)at + 2 * PAGE_BYTES));
	CHECK(at[PAGE_BYTES] == 7); // asking changes nothing
	CHECK(mprotect(at + PAGE_BYTES, PAGE_BYTES, PROT_READ | PROT_WRITE) == 0 && pages_writable((uintptr_t)at + PAGE_BYTES));
	CHECK(mprotect(at, PAGE_BYTES, PROT_NONE) == 0 && !pages_writable((uintptr_t)at));
	CHECK(munmap(at, 3 * PAGE_BYTES) == 0 && !pages_writable((uintptr_t)at + PAGE_BYTES));
	CHECK(!pages_writable((uintptr_t)&main));

	// The same without the kernel's word for it: every line of a long /proc/self/maps counts.
	for (unsigned i = 0; i < 200; i++) { // alternately protected, so that they stay separate lines
		unsigned char *one = map(i % 2 ? PROT_READ : PROT_READ | PROT_WRITE);
		CHECK(maps_say_writable((uintptr_t)one + PAGE_BYTES) == (i % 2 == 0));
	}
	CHECK(!maps_say_writable((uintptr_t)&main) && maps_say_writable((uintptr_t)&checks_passed));
	CHECK(!maps_say_writable(1) && !maps_say_writable(UINTPTR_MAX - 8));
	return harness_end();
}
