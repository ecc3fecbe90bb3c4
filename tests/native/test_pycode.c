// test_pycode.c -- a code object's record is its own, whoever else is met or dies at the same time
//
// nativebuild: flags -rdynamic
#include "fake_python.h"

#include "boot.h"
#include "pycode.h"
#include "pyframes.h"

#include <signal.h>

#define WINDOW 8U // slots in which an address may stand
#define SETS (16384U / WINDOW)

// As cache_window() has it: addresses of the same number compete.
static unsigned window_of(uintptr_t code) { return (unsigned)((code >> 4) * MLF_CHECK_1 >> 50) & ~(WINDOW - 1); }

// Code objects that stand in one window.
enum { COMPETING = 24, THREADS = 3 };
static uintptr_t competing[COMPETING];
static uint32_t right[COMPETING];

// Where a new one goes when all are taken.
static unsigned slot_of(uintptr_t code) { return (unsigned)(code >> 7) % WINDOW; }

// The first three go to one slot. The last ones to each, so that nobody stays where there was room in the beginning.
static bool fits(uintptr_t code, unsigned number)
{
	if (number < 3)
		return number == 0 || slot_of(code) == slot_of(competing[0]);
	return number < COMPETING - WINDOW || slot_of(code) == number % WINDOW;
}

static void make_competing(void)
{
	static char room[COMPETING * SETS * 16 * 16]; // addresses are looked at, few are used
	unsigned made = 0, wanted = 0;
	uintptr_t last = 0;
	for (uintptr_t at = round_up((uintptr_t)room, 16); made < COMPETING && at + 256 < (uintptr_t)room + sizeof(room); at += 16) {
		if (made == 0)
			wanted = window_of(at);
		if (window_of(at) != wanted || at - last < 256 || !fits(at, made))
			continue;
		char name[32];
		snprintf(name, sizeof(name), "function%u", made);
		fake_code((void *)at, "file.py", name, (int)made + 1);
		competing[made++] = last = at;
	}
	CHECK_EQUAL(made, COMPETING);
	for (unsigned i = 0; i < COMPETING; i++) {
		right[i] = pycode_ref(competing[i]);
		CHECK(right[i] != 0);
		const struct mlf_code *record = recording_at(right[i]);
		CHECK_EQUAL(record->first_line, (int)i + 1);
	}
}

// ---- a thread that stops at any instruction ----------------------------------------------------------------
//
// This thread is stepped through pycode_ref() by the processor's trap flag. What is called at a step happens as if this
// thread had lost the processor there, and another one had it.

static void (*at_each_step)(unsigned step);
static unsigned steps;

static void stepped(int signal)
{
	(void)signal;
	at_each_step(steps++);
}

__attribute__((noinline)) static uint32_t step_through(uintptr_t code, void (*call)(unsigned step))
{
	at_each_step = call;
	steps = 0;
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
	uint32_t ref = pycode_ref(code);
	__asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
	return ref;
}

static unsigned interrupted_at, wrong_there;

// One whole store at this step; from then on the other object has its own ref, whatever the first one is about to store.
static void other_is_stored(unsigned step)
{
	if (step == interrupted_at)
		pycode_ref(competing[1]);
	if (step >= interrupted_at)
		wrong_there += pycode_ref(competing[1]) != right[1];
}

// It is stored, dies, and what is made at its address later in that step is another one.
static uint64_t lives[2][64];
static uint32_t right_in_life[2];

static void other_dies(unsigned step)
{
	void (*dies)(uintptr_t) = (void (*)(uintptr_t))(uintptr_t)WORD(PyCode_Type, PYLAYOUT_TYPE_DEALLOC);
	void *place = (void *)competing[1];
	if (step == interrupted_at) {
		memcpy(place, lives[0], 256);
		pycode_ref(competing[1]);
	}
	if (step > interrupted_at) {
		unsigned life = (step - interrupted_at) % 2;
		dies(competing[1]);
		memcpy(place, lives[life], 256);
		wrong_there += pycode_ref(competing[1]) != right_in_life[life];
	}
}

static unsigned step_everywhere(void (*call)(unsigned step))
{
	unsigned last = 1;
	wrong_there = 0;
	// It is stored at the end; before, few places will do.
	for (interrupted_at = 0; interrupted_at < last; interrupted_at += last - interrupted_at > 100 ? 60 : 1) {
		pycode_ref(competing[2]); // its slot is the other two's as well
		pycode_ref(competing[2]);
		CHECK_EQUAL(step_through(competing[0], call), right[0]);
		last = steps;
	}
	return last;
}

static void test_at_each_instruction(void)
{
	signal(SIGTRAP, stepped);
	CHECK(step_everywhere(other_is_stored) > 100);
	CHECK_EQUAL(wrong_there, 0);
	uint64_t kept[32];
	memcpy(kept, (void *)competing[1], 256);
	for (unsigned i = 0; i < 2; i++) {
		char name[32];
		snprintf(name, sizeof(name), "life%u", i);
		fake_code(lives[i], "lives.py", name, 100 + (int)i);
		right_in_life[i] = pycode_ref((uintptr_t)lives[i]);
	}
	CHECK(step_everywhere(other_dies) > 100);
	CHECK_EQUAL(wrong_there, 0);
	void (*dies)(uintptr_t) = (void (*)(uintptr_t))(uintptr_t)WORD(PyCode_Type, PYLAYOUT_TYPE_DEALLOC);
	dies(competing[1]);
	memcpy((void *)competing[1], kept, 256);
}

// ---- threads -----------------------------------------------------------------------------------------------

static uint64_t rounds;
static uint64_t finds, wrong;

static void *find_them(void *number)
{
	uint64_t random = (uintptr_t)number + 1, mine = 0, others = 0;
	for (uint64_t i = 0; i < rounds; i++) {
		unsigned which = (unsigned)random_below(&random, COMPETING);
		mine++;
		others += pycode_ref(competing[which]) != right[which];
	}
	add_relaxed(&finds, mine);
	add_relaxed(&wrong, others);
	return NULL;
}

// Each thread meets what another one is storing just then, in a window too small for all.
static void test_no_other_objects_ref(bool is_long)
{
	rounds = is_long ? 100000000 : 4000000;
	in_threads(THREADS, find_them);
	CHECK_EQUAL(finds, THREADS * rounds);
	CHECK_EQUAL(wrong, 0);
}

int main(int argc, char **argv)
{
	bool is_long = long_run(argc, argv);
	boot();
	fake_begin();
	open_private(8U << 20);
	CHECK_EQUAL(pyframes_attach(), MLF_PYTHON_FRAMES);
	make_competing();
	test_at_each_instruction();
	test_no_other_objects_ref(is_long);
	return harness_end();
}
