// forms.c -- a library that reaches the malloc family in every way a linker knows, with a ledger
//
// Built several times, with lazy and immediate binding, with and without RELRO and a PLT. keep(ROUNDS)
// leaves blocks behind, release() frees every other one, in as many ways, and ledger() prints
// "site NAME COUNT BYTES" for what is left. warm() calls each function once and frees what it gave.
// inside(ROUNDS) calls functions of the C library that allocate for their caller.
#include <dirent.h>
#include <malloc.h>
#include <regex.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wchar.h>

struct kept {
	struct kept *next;
	int site;
};

typedef void *(*allocate)(size_t);

// R_X86_64_64 in .data.rel.ro, which is made read-only, and in .data.
static void *(*const fixed_malloc[2])(size_t) = {malloc, valloc};
static void *(*const fixed_calloc[2])(size_t, size_t) = {calloc, aligned_alloc};
static void (*const fixed_free[1])(void *) = {free};
static void *(*table_malloc[2])(size_t) = {malloc, pvalloc};
static void *(*table_realloc[1])(void *, size_t) = {realloc};
static void (*table_free[1])(void *) = {free};

static volatile int zero; // keeps the compiler from calling through a table directly
static char text[200];

static void *by_posix_memalign(size_t bytes)
{
	void *p = NULL;
	return posix_memalign(&p, 64, bytes) ? NULL : p;
}

static void *by_asprintf(size_t bytes)
{
	char *p = NULL;
	return asprintf(&p, "%.*s", (int)bytes - 1, text) < 0 ? NULL : p;
}

static void *by_wcsdup(size_t bytes)
{
	wchar_t wide[100];
	size_t n = bytes / sizeof(wchar_t) - 1;
	wmemset(wide, L'w', n);
	wide[n] = 0;
	return wcsdup(wide);
}

#define SITES(X)                                                                                   \
	X(malloc, malloc(bytes))                                                                   \
	X(calloc, calloc(1, bytes))                                                                \
	X(realloc_new, realloc(NULL, bytes))                                                       \
	X(realloc_old, realloc(malloc(9), bytes))                                                  \
	X(reallocarray, reallocarray(NULL, bytes, 1))                                              \
	X(posix_memalign, by_posix_memalign(bytes))                                                \
	X(aligned_alloc, aligned_alloc(32, bytes))                                                 \
	X(memalign, memalign(64, bytes))                                                           \
	X(valloc, valloc(bytes))                                                                   \
	X(fixed_malloc, fixed_malloc[zero](bytes))                                                 \
	X(fixed_valloc, fixed_malloc[zero + 1](bytes))                                             \
	X(fixed_calloc, fixed_calloc[zero](bytes, 1))                                              \
	X(fixed_aligned, fixed_calloc[zero + 1](16, bytes))                                        \
	X(table_malloc, table_malloc[zero](bytes))                                                 \
	X(table_pvalloc, table_malloc[zero + 1](bytes))                                            \
	X(table_realloc, table_realloc[zero](NULL, bytes))                                         \
	X(pointer, pointer(bytes))                                                                 \
	X(strdup, strdup(text + sizeof(text) - bytes))                                             \
	X(strndup, strndup(text, bytes - 1))                                                       \
	X(wcsdup, by_wcsdup(bytes))                                                                \
	X(asprintf, by_asprintf(bytes))

#define NUMBER(name, expression) SITE_##name,
enum { SITES(NUMBER) SITE_COUNT };

static struct kept *kept[SITE_COUNT];
static long count[SITE_COUNT];
#define BYTES(site) (96 + 4 * (size_t)(site))

#define FUNCTION(name, expression)                                                                 \
	static __attribute__((noinline, noclone)) void *keep_##name(size_t bytes, allocate pointer) \
	{                                                                                          \
		(void)pointer;                                                                     \
		void *p = (expression);                                                            \
		__asm__ volatile("" : "+r"(p)::"memory");                                          \
		return p;                                                                          \
	}
SITES(FUNCTION)

#define ENTRY(name, expression) {"keep_" #name, keep_##name},
static const struct {
	const char *name;
	void *(*keep)(size_t, allocate);
} sites[] = {SITES(ENTRY)};

static __attribute__((constructor)) void fill(void) { memset(text, 't', sizeof(text) - 1); }

static void release_one(void *p, int how)
{
	if (how % 5 == 0)
		free(p);
	else if (how % 5 == 1)
		fixed_free[zero](p);
	else if (how % 5 == 2)
		table_free[zero](p);
	else if (how % 5 == 3)
		free(realloc(p, 5000));
	else
		free(table_realloc[zero](p, 10));
}

int keep(int rounds)
{
	// From a table: with the address of malloc taken in code the linker would bind all calls at once.
	volatile allocate pointer = table_malloc[zero];
	for (int i = 0; i < rounds; i++)
		for (int site = 0; site < SITE_COUNT; site++) {
			struct kept *p = sites[site].keep(BYTES(site), pointer);
			if (!p)
				return -1;
			*p = (struct kept){kept[site], site};
			kept[site] = p;
			count[site]++;
		}
	return SITE_COUNT;
}

void release(void)
{
	for (int site = 0; site < SITE_COUNT; site++) {
		int how = 0;
		for (struct kept **at = &kept[site]; *at && (*at)->next; at = &(*at)->next) {
			struct kept *p = *at;
			*at = p->next;
			release_one(p, how++);
			count[site]--;
		}
	}
}

void release_all(void)
{
	for (int site = 0; site < SITE_COUNT; site++)
		for (struct kept *p = kept[site]; p; p = kept[site]) {
			kept[site] = p->next;
			free(p);
			count[site]--;
		}
}

void warm(void)
{
	for (int i = 0; i < 5; i++)
		for (int site = 0; site < SITE_COUNT; site++)
			release_one(sites[site].keep(BYTES(site), table_malloc[zero]), i);
}

void ledger(void)
{
	for (int site = 0; site < SITE_COUNT; site++)
		printf("site %s %ld %ld\n", sites[site].name, count[site], count[site] * (long)BYTES(site));
	fflush(stdout);
}

// What the C library allocates here depends on it; it is the same through every door.
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
static __attribute__((noinline, noclone)) int inside_tsearch(void **root, const int *key) { return tsearch(key, root, compare) != NULL; }
static __attribute__((noinline, noclone)) FILE *inside_fopen(void) { return fopen("/dev/null", "r"); }
static __attribute__((noinline, noclone)) char *inside_getcwd(void) { return getcwd(NULL, 0); }
static __attribute__((noinline, noclone)) char *inside_realpath(void) { return realpath("/usr", NULL); }
static __attribute__((noinline, noclone)) DIR *inside_opendir(void) { return opendir("/"); }
static __attribute__((noinline, noclone)) int inside_regcomp(regex_t *r) { return regcomp(r, "a(b|c)*d+", REG_EXTENDED); }
static __attribute__((noinline, noclone)) long inside_getline(char **line)
{
	size_t room = 0;
	FILE *file = fmemopen(text, sizeof(text), "r");
	long length = file ? getline(line, &room, file) : -1;
	if (file)
		fclose(file);
	return length;
}

int inside(int rounds)
{
	static int keys[1000];
	static void *root;
	int good = 0;
	for (int i = 0; i < rounds && i < 1000; i++) {
		char *line = NULL;
		regex_t expression;
		keys[i] = i;
		good += inside_tsearch(&root, &keys[i]);
		good += inside_fopen() != NULL;
		good += inside_getcwd() != NULL;
		good += inside_realpath() != NULL;
		good += inside_opendir() != NULL;
		good += inside_regcomp(&expression) == 0;
		good += inside_getline(&line) > 0;
	}
	return good;
}
