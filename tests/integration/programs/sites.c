// sites.c -- allocates at named places, in orders that try a sampler, with an exact ledger of its own
//
// usage: sites SCENARIO SIZE SEED
// What a scenario does not free stays live. At the end prints "site NAME COUNT BYTES" for each place: its live
// blocks, which test_sampled_programs.py compares with what the recording estimates. SEED is for the order and the
// sizes of random scenarios; the sampler has numbers of its own.
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

#define SITES(X) X(small) X(large) X(mixed) X(leak) X(scratch) X(odd) X(even) X(tiny) X(little) X(page) X(slab) X(huge)

struct ledger {
	long long count, bytes;
};

// A place: a function of its own, which is the innermost frame of what it allocates.
#define DEFINE(name)                                                                               \
	static struct ledger ledger_##name;                                                        \
	__attribute__((noinline, noclone)) void *site_##name(size_t bytes)                         \
	{                                                                                          \
		void *p = malloc(bytes);                                                           \
		if (!p)                                                                            \
			abort();                                                                   \
		__atomic_fetch_add(&ledger_##name.count, 1, __ATOMIC_RELAXED);                     \
		__atomic_fetch_add(&ledger_##name.bytes, (long long)bytes, __ATOMIC_RELAXED);      \
		return p;                                                                          \
	}
SITES(DEFINE)

static void release(struct ledger *ledger, void *p, size_t bytes)
{
	__atomic_fetch_sub(&ledger->count, 1, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&ledger->bytes, (long long)bytes, __ATOMIC_RELAXED);
	free(p);
}

static uint64_t chance;

static uint64_t random_below(uint64_t limit)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return (uint64_t)((unsigned __int128)(chance * 0x2545F4914F6CDD1D) * limit >> 64);
}

static void pause_for_us(long us)
{
	nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

// ---- the programs ----------------------------------------------------------------------------------

static void small(long n)
{
	for (long i = 0; i < n; i++)
		site_small(16);
}

static void large(long n)
{
	for (long i = 0; i < n; i++)
		site_large(3 * MIB);
}

static void mixed(long n)
{
	for (long i = 0; i < n; i++) {
		uint64_t kind = random_below(100);
		site_mixed(kind < 90 ? 64 : kind < 99 ? 8 * KIB : MIB);
	}
}

// One request: the second of its eight blocks leaks, the others are freed at its end.
static void *request(void *unused)
{
	void *blocks[8];
	for (int i = 1; i <= 8; i++)
		blocks[i - 1] = i == 2 ? site_leak(64) : site_scratch(100);
	for (int i = 1; i <= 8; i++)
		if (i != 2)
			release(&ledger_scratch, blocks[i - 1], 100);
	return unused;
}

static void requests(long n)
{
	for (long i = 0; i < n; i++)
		request(NULL);
}

static pthread_t start(void *(*body)(void *))
{
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 64 * KIB);
	if (pthread_create(&thread, &attributes, body, NULL))
		abort();
	pthread_attr_destroy(&attributes);
	return thread;
}

// On one processor: handing over from thread to thread then takes a third of the time.
static void requests_in_threads(long n)
{
	cpu_set_t here;
	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	sched_setaffinity(0, sizeof(here), &here);
	for (long i = 0; i < n; i++)
		pthread_join(start(request), NULL);
}

static void *hundred(void *unused)
{
	for (int i = 0; i < 50; i++) {
		site_even(1000);
		site_odd(64);
	}
	return unused;
}

// N threads of 100 allocations, up to 40 of them alive.
static void threads(long n)
{
	pthread_t alive[40];
	for (long begun = 0; begun < n;) {
		int now = 0;
		for (; now < 40 && begun < n; now++, begun++)
			alive[now] = start(hundred);
		while (now)
			pthread_join(alive[--now], NULL);
	}
}

// Takes its time, so that somebody can change the knobs meanwhile.
static void knobs(long n)
{
	puts("ready");
	fflush(stdout);
	for (long i = 0; i < n; i++) {
		i % 3 ? site_odd(64) : site_even(512);
		if (random_below(500) == 0)
			pause_for_us(500);
	}
}

// Five places of 10 % to 1 %, with sizes of their own, in random order among the allocations of a sixth.
static void random_order(long n)
{
	for (long i = 0; i < n; i++) {
		uint64_t draw = random_below(100);
		draw < 10   ? site_tiny(48)
		: draw < 20 ? site_little(256)
		: draw < 28 ? site_page(2048)
		: draw < 36 ? site_slab(64 * KIB)
		: draw < 37 ? site_huge(MIB)
			    : site_odd(120);
	}
}

// SIZE bytes of 64-byte leaks, and three buffers of 3 MiB somewhere among them.
static void ranking(long bytes)
{
	long leaks = bytes / 64, at[3];
	for (int i = 0; i < 3; i++)
		at[i] = (long)random_below((uint64_t)leaks);
	for (long i = 0; i < leaks; i++) {
		site_leak(64);
		for (int k = 0; k < 3; k++)
			if (at[k] == i)
				site_large(3 * MIB);
	}
}

// Something for every rule: number, bytes, size, mappings; threads too.
static void everything(long n)
{
	small(n);
	mixed(n);
	large(20);
	site_huge(20 * MIB);
	threads(100);
	if (mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		abort();
}

#define SCENARIO(name) {#name, name}
static const struct {
	const char *name;
	void (*run)(long);
} scenarios[] = {
    SCENARIO(small),   SCENARIO(large), SCENARIO(mixed),        SCENARIO(requests), SCENARIO(requests_in_threads),
    SCENARIO(threads), SCENARIO(knobs), SCENARIO(random_order), SCENARIO(ranking),  SCENARIO(everything),
};

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	chance = strtoull(argv[3], NULL, 10) * 0x9E3779B97F4A7C15 | 1;
	void (*run)(long) = NULL;
	for (unsigned i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++)
		if (strcmp(argv[1], scenarios[i].name) == 0)
			run = scenarios[i].run;
	if (!run)
		return 2;
	run(atol(argv[2]));
#define PRINT(name) printf("site %s %lld %lld\n", #name, ledger_##name.count, ledger_##name.bytes);
	SITES(PRINT)
	fflush(stdout);
	return 0;
}
