// next_calloc.c -- a library that wraps calloc as wrappers do: dlsym inside the first call
//
// Built with -shared -fPIC and preloaded before or behind the tracer.
#include <dlfcn.h>
#include <stddef.h>

void *calloc(size_t n, size_t each)
{
	static void *(*next)(size_t, size_t);
	static char early[4096];
	static size_t used;
	static int resolving;
	if (!next) {
		if (resolving) { // dlsym calls calloc
			void *p = early + used;
			used += (n * each + 15) & ~(size_t)15;
			return p;
		}
		resolving = 1;
		next = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
		resolving = 0;
	}
	return next(n, each);
}
