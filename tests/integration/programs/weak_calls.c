// Calls all that memleak.h offers a program about itself, linked in any way and to the library in none; C and C++.
//
// Usage: weak_calls | weak_calls LIBPYTHON CODE: with a CPython that runs CODE between two rounds. Prints a line a round.
#include <dlfcn.h>
#include <stdio.h>

#include "memleak.h"

static unsigned char memory[64];
static unsigned pool;

// What a round answers: 0 where there is nobody.
static void round_of_calls(void)
{
	long long value = -1;
	unsigned gauge = memleak_gauge("tables");
	memleak_gauge_set(gauge, 40);
	memleak_gauge_add(gauge, 2);
	int known = memleak_gauge_value(gauge, &value);
	unsigned label = memleak_label_number("job=weak");
	unsigned before = memleak_label_set(label);
	unsigned in_force = memleak_label_set(before);
	pool = memleak_pool("weak");
	int begun = memleak_pool_region(pool, memory, sizeof(memory));
	memleak_pool_alloc(pool, memory, 40);
	memleak_pool_resize(pool, memory, memory, 48);
	memleak_pool_free_sized(pool, memory, 48);
	memleak_pool_alloc(pool, memory, 40);
	memleak_pool_free(pool, memory);
	void (*give_back)(unsigned, const void *) = MEMLEAK_AT(memleak_pool_free);
	memleak_pool_alloc(pool, memory + 16, 40);
	if (give_back)
		give_back(pool, memory + 16);
	memleak_pool_alloc(pool, memory + 8, 50);
	int ended = memleak_pool_region_end(pool, NULL);
	printf("%d %d %lld %d %d %d %d %d\n", gauge != 0, known, value, label != 0, in_force == label, pool != 0, begun, ended);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	round_of_calls();
	if (argc < 3)
		return 0;
#ifdef WITH_PYTHON
	void *python = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
	void (*begin)(int) = python ? (void (*)(int))dlsym(python, "Py_InitializeEx") : NULL;
	int (*run)(const char *) = begin ? (int (*)(const char *))dlsym(python, "PyRun_SimpleString") : NULL;
	if (!run)
		return 2;
	begin(0);
	if (run(argv[2]))
		return 3;
	round_of_calls();
	return run("told()") ? 4 : 0;
#endif
	(void)argv;
	return 2;
}
