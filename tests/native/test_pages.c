// test_pages.c -- what is told of a page's protection is what holds
#include "fixture.h"

#include "pages.h"

#include <sys/mman.h>

#define writable(address) (pages_look(address) == PAGES_WRITABLE)
#define protected(address) (pages_look(address) == PAGES_PROTECTED)

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
	CHECK(writable((uintptr_t)at) && writable((uintptr_t)at + PAGE_BYTES - 1));
	CHECK(protected((uintptr_t)at + PAGE_BYTES) && protected((uintptr_t)at + 2 * PAGE_BYTES - 8));
	CHECK(writable((uintptr_t)at + 2 * PAGE_BYTES));
	CHECK(at[PAGE_BYTES] == 7); // asking changes nothing
	CHECK(mprotect(at + PAGE_BYTES, PAGE_BYTES, PROT_READ | PROT_WRITE) == 0 && writable((uintptr_t)at + PAGE_BYTES));
	CHECK(mprotect(at, PAGE_BYTES, PROT_NONE) == 0 && protected((uintptr_t)at));
	CHECK(munmap(at, 3 * PAGE_BYTES) == 0 && pages_look((uintptr_t)at + PAGE_BYTES) == PAGES_UNKNOWN);
	CHECK(protected((uintptr_t)&main));

	// The same without the kernel's word for it: every line of a long /proc/self/maps counts.
	for (unsigned i = 0; i < 200; i++) { // alternately protected, so that they stay separate lines
		unsigned char *one = map(i % 2 ? PROT_READ : PROT_READ | PROT_WRITE);
		CHECK(pages_look_in_maps((uintptr_t)one + PAGE_BYTES) == (i % 2 ? PAGES_PROTECTED : PAGES_WRITABLE));
	}
	CHECK(pages_look_in_maps((uintptr_t)&main) == PAGES_PROTECTED);
	CHECK(pages_look_in_maps((uintptr_t)&checks_passed) == PAGES_WRITABLE);
	CHECK(pages_look_in_maps(1) == PAGES_UNKNOWN && pages_look_in_maps(UINTPTR_MAX - 8) == PAGES_UNKNOWN);
	return harness_end();
}
