// holders.c -- functions that keep blocks and let them go, by name, for programs that say when
//
// make_X(COUNT) allocates COUNT blocks of a size that is X's own, drop_X() frees all of them, count_X() says
// how many there are.
#include <stdlib.h>

struct held {
	struct held *next;
};

#define HOLDER(name, bytes)                                                                        \
	static struct held *held_##name;                                                           \
	static long count_of_##name;                                                               \
	__attribute__((noinline, noclone)) void make_##name(long count)                            \
	{                                                                                          \
		for (long i = 0; i < count; i++) {                                                 \
			struct held *p = malloc(bytes);                                            \
			if (!p)                                                                    \
				abort();                                                           \
			p->next = held_##name;                                                     \
			held_##name = p;                                                           \
			count_of_##name++;                                                         \
		}                                                                                  \
	}                                                                                          \
	__attribute__((noinline, noclone)) void drop_##name(void)                                  \
	{                                                                                          \
		while (held_##name) {                                                              \
			struct held *p = held_##name;                                              \
			held_##name = p->next;                                                     \
			free(p);                                                                   \
		}                                                                                  \
		count_of_##name = 0;                                                               \
	}                                                                                          \
	long count_##name(void) { return count_of_##name; }

HOLDER(a, 1111)
HOLDER(b, 2222)
HOLDER(c, 3333)
HOLDER(d, 444)
