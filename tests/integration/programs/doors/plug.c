// plug.c -- a plug-in that is loaded and unloaded again and again
//
// Built with -DVARIANT=0…3, which moves its functions, so that an address comes back as another function's. Variant
// 1 calls through entries only, which the loader may bind one by one; the others have addresses in data, too.
// Whatever it allocates is freed: by itself, by its destructor, or by who asked plug_make() for it.
#include <stdlib.h>
#include <string.h>

#ifndef VARIANT
#define VARIANT 0
#endif

static __thread char scratch[64 + 512 * VARIANT];
static void *from_constructor;
#if VARIANT == 1
#define TABLE_MALLOC malloc
#define TABLE_FREE free
#else
static volatile int zero;
static void *(*const table_malloc[1])(size_t) = {malloc};
static void (*table_free[1])(void *) = {free};
#define TABLE_MALLOC table_malloc[zero]
#define TABLE_FREE table_free[zero]
#endif

#if VARIANT > 0
__attribute__((noinline, noclone)) int plug_padding(int n)
{
	volatile char room[256 * VARIANT];
	for (int i = 0; i < n; i++)
		room[i % sizeof(room)] = (char)(room[(i + 1) % sizeof(room)] + i * VARIANT);
	return room[0];
}
#endif

__attribute__((noinline, noclone)) void *plug_make(size_t bytes)
{
	void *p = malloc(bytes);
	__asm__ volatile("" : "+r"(p));
	return p;
}

__attribute__((noinline, noclone)) void plug_work(int rounds)
{
	void *held[16] = {0};
	for (int i = 0; i < rounds; i++) {
		int k = i % 16;
		scratch[i % sizeof(scratch)]++;
		if (k % 4 == 3)
			TABLE_FREE(held[k]);
		else if (k % 4 != 2)
			free(held[k]);
		switch (k % 4) {
		case 0: held[k] = malloc((size_t)(i % 300)); break;
		case 1: held[k] = calloc(1, (size_t)(i % 3000)); break;
		case 2: held[k] = realloc(held[k], (size_t)(1 + i % 500)); break;
		case 3: held[k] = TABLE_MALLOC(40); break;
		}
	}
	for (int k = 0; k < 16; k++)
		free(held[k]);
}

static __attribute__((constructor)) void load(void) { from_constructor = strdup("constructor"); }
static __attribute__((destructor)) void unload(void) { free(from_constructor); }
