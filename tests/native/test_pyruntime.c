// test_pyruntime.c -- an interpreter is looked for when something was loaded, found once, and held; what is not as known is left alone
//
// nativebuild: flags -rdynamic
#include "fake_python.h"

#include "pyframes.h"
#include "pyruntime.h"

#include "boot.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/wait.h>

// The core's way to the loader's list: here it can be shortened, and what was asked is counted.
static unsigned shown;     // objects
static unsigned added;     // beside what the loader counts
static enum { ALL, WITHOUT_PROGRAM, PROGRAM_NOT_FIRST } show;

struct showing {
	int (*look)(struct dl_phdr_info *, size_t, void *);
	void *context;
	struct dl_phdr_info program;
	bool ended;
};

static int pass_on(struct showing *showing, struct dl_phdr_info *info, size_t bytes)
{
	info->dlpi_adds += added;
	shown++;
	int result = showing->look(info, bytes, showing->context);
	showing->ended = result != 0;
	return result;
}

static int show_one(struct dl_phdr_info *info, size_t bytes, void *context)
{
	struct showing *showing = context;
	if (show != ALL && info->dlpi_addr != 0 && info->dlpi_name[0] == 0) {
		showing->program = *info;
		return 0;
	}
	return pass_on(showing, info, bytes);
}

int dl_iterate_phdr(int (*look)(struct dl_phdr_info *, size_t, void *), void *context)
{
	static int (*real)(int (*)(struct dl_phdr_info *, size_t, void *), void *);
	if (!real)
		real = (int (*)(int (*)(struct dl_phdr_info *, size_t, void *), void *))dlsym(RTLD_NEXT, "dl_iterate_phdr");
	struct showing showing = {.look = look, .context = context};
	int result = real(show_one, &showing);
	if (show == PROGRAM_NOT_FIRST && !showing.ended)
		result = pass_on(&showing, &showing.program, sizeof(showing.program));
	return result;
}

// Runs in a process of its own: an interpreter is found once and for all.
static void alone(void (*test)(void))
{
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		checks_passed = checks_failed = 0;
		test();
		_exit(checks_failed ? 1 : 0);
	}
	int status = -1;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static unsigned objects_looked_at(enum mlf_python expected)
{
	shown = 0;
	CHECK_EQUAL(pyframes_attach(), expected);
	return shown;
}

static void test_nothing_new(void)
{
	show = WITHOUT_PROGRAM;
	unsigned all = objects_looked_at(MLF_PYTHON_NONE);
	CHECK(all > 1);
	CHECK_EQUAL(objects_looked_at(MLF_PYTHON_NONE), 1);
	added++;
	CHECK_EQUAL(objects_looked_at(MLF_PYTHON_NONE), all);
	CHECK_EQUAL(objects_looked_at(MLF_PYTHON_NONE), 1);
	show = ALL;
	CHECK_EQUAL(objects_looked_at(MLF_PYTHON_NONE), 1);
	added++;
	CHECK_EQUAL(objects_looked_at(MLF_PYTHON_FRAMES), 1);
	CHECK_EQUAL(pyframes_version(), 0x03091200);
	CHECK_EQUAL(objects_looked_at(MLF_PYTHON_FRAMES), 0);
}

// What cannot be held may be unloaded at any time. (The program itself is never unloaded; here it does not look like it.)
static void test_gone_meanwhile(void)
{
	show = PROGRAM_NOT_FIRST;
	unsigned all = objects_looked_at(MLF_PYTHON_NONE);
	CHECK_EQUAL(objects_looked_at(MLF_PYTHON_NONE), all); // nothing was loaded, and still
	CHECK(WORD(PyCode_Type, PYLAYOUT_TYPE_DEALLOC) == (uintptr_t)&fake_code_dies);
	show = ALL;
	CHECK_EQUAL(objects_looked_at(MLF_PYTHON_FRAMES), 1);
}

// ---- structures that are not those of the version ----------------------------------------------------------

static void check_left_alone(void)
{
	CHECK_EQUAL(pyframes_attach(), MLF_PYTHON_UNKNOWN_VERSION);
	CHECK(!pyruntime.layout);
	CHECK(WORD(PyCode_Type, PYLAYOUT_TYPE_DEALLOC) == (uintptr_t)&fake_code_dies);
}

static void test_code_is_larger(void)
{
	WORD(PyCode_Type, PYLAYOUT_TYPE_BASIC_SIZE) += 8;
	check_left_alone();
}

static void test_frames_are_larger(void)
{
	WORD(PyFrame_Type, PYLAYOUT_TYPE_BASIC_SIZE) += 8;
	check_left_alone();
}

static void test_as_known(void)
{
	CHECK_EQUAL(pyframes_attach(), MLF_PYTHON_FRAMES);
	CHECK(pyruntime.layout == fake_layout() && pyruntime.at == (uintptr_t)_PyRuntime);
	// Whose members stand elsewhere in a thread's state.
	struct pylayout_signs signs = {16, 256, fake_layout()->code_bytes, fake_layout()->frame_bytes};
	CHECK(pylayout_fits(fake_layout(), &signs));
	signs.thread_interp = 24;
	CHECK(!pylayout_fits(fake_layout(), &signs));
	signs.thread_interp = 16;
	signs.thread_id = 264;
	CHECK(!pylayout_fits(fake_layout(), &signs));
}

// The head of a 3.13's structures, which says what it was built as; nothing of ours is known to be safe without a GIL.
static void test_without_a_gil(void)
{
	uint64_t words[64] = {0};
	enum mlf_python state;
	memcpy(words, "xdebugpy", 8);
	words[1] = 0x030D00F0;
	CHECK(!pylayout_of(0x030D00F0, words, &state) && state == MLF_PYTHON_UNKNOWN_VERSION); // other offsets than we know
	words[2] = 1;
	CHECK(!pylayout_of(0x030D00F0, words, &state) && state == MLF_PYTHON_FREE_THREADED);
}

// ---- two at once -------------------------------------------------------------------------------------------

static uint32_t asked, returned;

// The other thread comes while this one is at it. It need not wait, and finds nothing yet.
static void wait_for_the_other(void)
{
	__atomic_fetch_add(&asked, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 2000 && !__atomic_load_n(&returned, __ATOMIC_SEQ_CST); i++)
		usleep(1000);
}

static void *attach(void *unused)
{
	(void)unused;
	pyframes_attach();
	__atomic_fetch_add(&returned, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void test_two_at_once(void)
{
	fake_asked_version = wait_for_the_other;
	in_threads(2, attach);
	CHECK_EQUAL(asked, 1);
	CHECK_EQUAL(pyframes_attach(), MLF_PYTHON_FRAMES);
	uint64_t code[64];
	fake_code(code, "file", "name", 1);
	void (*dealloc)(uintptr_t) = (void (*)(uintptr_t))(uintptr_t)WORD(PyCode_Type, PYLAYOUT_TYPE_DEALLOC);
	CHECK(dealloc != &fake_code_dies);
	dealloc((uintptr_t)code); // ends where it should, once
	CHECK_EQUAL(fake_deaths, 1);
}

int main(void)
{
	boot();
	fake_begin();
	alone(test_nothing_new);
	alone(test_gone_meanwhile);
	alone(test_code_is_larger);
	alone(test_frames_are_larger);
	alone(test_as_known);
	alone(test_without_a_gil);
	alone(test_two_at_once);
	return harness_end();
}
