// paths.c -- 256 functions that call each other along a path that is given, and allocate at its end
#include <stdlib.h>

typedef void *step(const unsigned char *path, size_t left, size_t bytes);
extern step *const steps[256];

static void *volatile latest;

#define STEP(name)                                                                                 \
	static __attribute__((noinline)) void *name(const unsigned char *path, size_t left, size_t bytes) \
	{                                                                                          \
		void *found = left == 0 ? malloc(bytes) : steps[*path](path + 1, left - 1, bytes); \
		latest = found; /* no tail call: each stands in the stack */                       \
		return found;                                                                      \
	}
#define FOUR(do, n) do(n##0) do(n##1) do(n##2) do(n##3)
#define SIXTEEN(do, n) FOUR(do, n##0) FOUR(do, n##1) FOUR(do, n##2) FOUR(do, n##3)
#define SIXTY_FOUR(do, n) SIXTEEN(do, n##0) SIXTEEN(do, n##1) SIXTEEN(do, n##2) SIXTEEN(do, n##3)
#define ALL(do) SIXTY_FOUR(do, step_0) SIXTY_FOUR(do, step_1) SIXTY_FOUR(do, step_2) SIXTY_FOUR(do, step_3)
#define NAME(name) name,

ALL(STEP)

step *const steps[256] = {ALL(NAME)};

__attribute__((visibility("default"))) void *walk(const unsigned char *path, size_t left, size_t bytes)
{
	return steps[*path](path + 1, left - 1, bytes);
}
