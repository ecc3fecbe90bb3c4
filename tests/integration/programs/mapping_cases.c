// mapping_cases.c -- single mappings of known fate, files among them, and calls that fail
//
// Prints results and errno of each call, and "site NAME PIECES BYTES" of what is left.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define K ((size_t)1024)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
static char *volatile kept;

#define MAPS(name, bytes, protection, flags, fd)                                                   \
	__attribute__((noinline, noclone)) char *map_##name(void)                                  \
	{                                                                                          \
		return kept = mmap(NULL, bytes, protection, flags, fd, 0);                         \
	}
static int file;
MAPS(just_too_small, 64 * K - 1, PROT_READ | PROT_WRITE, ANONYMOUS, -1)
MAPS(just_enough, 64 * K, PROT_READ | PROT_WRITE, ANONYMOUS, -1)
MAPS(odd_size, 100 * K + 123, PROT_READ | PROT_WRITE, ANONYMOUS, -1)
MAPS(reserved, 1024 * K, PROT_NONE, ANONYMOUS, -1)
MAPS(shared, 128 * K, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1)
MAPS(file, 256 * K, PROT_READ, MAP_PRIVATE, file)
MAPS(gone, 512 * K, PROT_READ | PROT_WRITE, ANONYMOUS, -1)
MAPS(head_gone, 256 * K, PROT_READ | PROT_WRITE, ANONYMOUS, -1)
MAPS(tail_gone, 256 * K, PROT_READ | PROT_WRITE, ANONYMOUS, -1)
MAPS(middle_gone, 256 * K, PROT_READ | PROT_WRITE, ANONYMOUS, -1)
MAPS(survives, 192 * K, PROT_READ | PROT_WRITE, ANONYMOUS, -1)
MAPS(before_growth, 64 * K, PROT_READ | PROT_WRITE, ANONYMOUS, -1)

__attribute__((noinline, noclone)) char *map_grown(void)
{
	return kept = mremap(map_before_growth(), 64 * K, 4096 * K, MREMAP_MAYMOVE);
}

static void say(const char *what, long result)
{
	printf("%s: %ld errno %d\n", what, result, errno);
	errno = 0;
}

int main(void)
{
	file = open("/proc/self/exe", O_RDONLY);
	map_just_too_small(), map_just_enough(), map_odd_size(), map_reserved(), map_shared(), map_file();
	say("munmap", munmap(map_gone(), 512 * K));
	say("munmap head", munmap(map_head_gone(), 64 * K));
	say("munmap tail", munmap(map_tail_gone() + 128 * K, 128 * K));
	say("munmap middle", munmap(map_middle_gone() + 64 * K, 64 * K));
	char *p = map_survives();
	say("munmap unaligned", munmap(p + 1, 192 * K));
	say("munmap nothing", munmap(p, 0));
	say("munmap wraps", munmap(p, (size_t)-4096));
	say("munmap kernel", munmap((void *)((size_t)1 << 62), 4096));
	say("mremap nonsense", (long)mremap(p, 192 * K, 0, 0));
	say("mremap flags", (long)mremap(p, 192 * K, 256 * K, 0x40));
	say("mremap overlap", (long)mremap(p, 192 * K, 64 * K, MREMAP_MAYMOVE | MREMAP_FIXED, p + 4096));
	say("mmap nothing", (long)mmap(NULL, 0, PROT_READ, ANONYMOUS, -1, 0));
	say("mmap too much", (long)mmap(NULL, (size_t)1 << 60, PROT_READ | PROT_WRITE, ANONYMOUS, -1, 0));
	say("mmap bad fd", (long)mmap(NULL, 1024 * K, PROT_READ, MAP_PRIVATE, 9999, 0));
	say("mmap fixed unaligned", (long)mmap(p + 1, 128 * K, PROT_READ, ANONYMOUS | MAP_FIXED, -1, 0));
	say("mmap no replace", (long)mmap(p, 128 * K, PROT_READ, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	map_grown();
	printf("site map_just_enough 1 %zu\nsite map_odd_size 1 %zu\nsite map_shared 1 %zu\nsite map_file 1 %zu\n", 64 * K,
	       100 * K + 123, 128 * K, 256 * K);
	printf("site map_head_gone 1 %zu\nsite map_tail_gone 1 %zu\nsite map_middle_gone 2 %zu\n", 192 * K, 128 * K, 192 * K);
	printf("site map_survives 1 %zu\nsite map_grown 1 %zu\n", 192 * K, 4096 * K);
	return 0;
}
