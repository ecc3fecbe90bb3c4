// pages.c -- how a page of this process is protected
//
// Context:   cold.
// Invariant: nothing is changed, but that a private page asked about may get its own copy early. A page is called protected
//            only if it is: no memory, or a filter that refuses the question, says nothing of it.
// Why:       the protection that an object's program headers promise is not always the one in force: another
//            thread's loader has not finished the object, or another tool left a page writable. Protecting a page
//            that its owner is about to write would kill the program.
// Proof:     tests/native/test_pages.c
#include "pages.h"

#include "atomics.h"
#include "sys.h"
#include "text.h"

#include <errno.h>

static uint32_t asked_kernel; // 0: not tried; 1: MADV_POPULATE_WRITE tells; 2: it is not there (before Linux 5.14)

static bool kernel_tells(void)
{
	uint32_t known = load_relaxed(&asked_kernel); // relaxed: whoever asks finds the same
	if (!known) {
		uintptr_t own = round_down((uintptr_t)&asked_kernel, PAGE_BYTES);
		known = sys_madvise((void *)own, PAGE_BYTES, MADV_POPULATE_WRITE) == 0 ? 1 : 2;
		store_relaxed(&asked_kernel, known);
	}
	return known == 1;
}

static uintptr_t parse_address(const char **at)
{
	uint64_t digit, value = 0;
	while (text_parse_hex(at, 1, &digit))
		value = value << 4 | digit;
	return value;
}

// One line of /proc/self/maps: "low-high rw.. …".
static bool line_says_writable(const char *line, uintptr_t address, bool *found)
{
	uintptr_t low = parse_address(&line), high = *line == '-' ? (line++, parse_address(&line)) : 0;
	*found = *line == ' ' && address >= low && address < high;
	return *found && line[1] && line[2] == 'w';
}

enum pages_state pages_look_in_maps(uintptr_t address)
{
	enum { HEAD = 40 }; // of a line: two addresses and the protection
	char buffer[512], head[HEAD + 1];
	unsigned length = 0;
	int fd = (int)sys_openat(AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return PAGES_UNKNOWN;
	bool found = false, writable = false;
	for (long got; !found && (got = sys_read(fd, buffer, sizeof(buffer))) > 0;)
		for (long i = 0; !found && i < got; i++) {
			if (buffer[i] != '\n') {
				if (length < HEAD)
					head[length++] = buffer[i];
				continue;
			}
			head[length] = 0;
			length = 0;
			writable = line_says_writable(head, address, &found);
		}
	sys_close(fd);
	return !found ? PAGES_UNKNOWN : writable ? PAGES_WRITABLE : PAGES_PROTECTED;
}

enum pages_state pages_look(uintptr_t address)
{
	if (!kernel_tells())
		return pages_look_in_maps(address);
	switch (sys_madvise((void *)round_down(address, PAGE_BYTES), PAGE_BYTES, MADV_POPULATE_WRITE)) {
	case 0: return PAGES_WRITABLE;
	case -EINVAL: return PAGES_PROTECTED; // this and nothing else says so
	case -EPERM: case -EACCES: case -ENOSYS: return pages_look_in_maps(address); // a filter, since we asked first
	default: return PAGES_UNKNOWN;
	}
}
