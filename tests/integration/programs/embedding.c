// An application that brings CPython with it: starts and ends it again and again, with threads and interpreters of its own.
//
// Usage: embedding again | daemons | released | leaving | interpreters | own_gil | raw | put_back | in_front | replaced. What it
// prints does not depend on chance.
#include <Python.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};

static void *volatile kept[4096], *volatile work; // blocks the compiler may not do without
static int n_kept, stage; // stage: how far two threads have come together

// ---- module host ---------------------------------------------------------------------------------------

// keep(size): a block of the application's, for ever.
static PyObject *host_keep(PyObject *self, PyObject *arg)
{
	(void)self;
	kept[__atomic_fetch_add(&n_kept, 1, __ATOMIC_RELAXED) % 4096] = malloc(PyLong_AsSize_t(arg));
	Py_RETURN_NONE;
}

static void reach(int next)
{
	__atomic_store_n(&stage, next, __ATOMIC_SEQ_CST);
}

static void await(int wanted)
{
	while (__atomic_load_n(&stage, __ATOMIC_SEQ_CST) < wanted)
		usleep(100);
}

// work(): lets go of the interpreter, which is ended meanwhile, allocates at its end and after it.
static PyObject *host_work(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	Py_BEGIN_ALLOW_THREADS
	reach(1);
	for (int next = 2; next <= 4; next += 2) {
		await(next);
		for (int i = 0; i < 1000; i++)
			free(work = malloc(100 + i));
		reach(next + 1);
	}
	for (;;)
		pause();
	Py_END_ALLOW_THREADS
	Py_RETURN_NONE;
}

// linger(): lets go of the interpreter and keeps a block while it runs, one while it is about to end.
static PyObject *host_linger(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	Py_BEGIN_ALLOW_THREADS
	reach(1);
	await(2);
	kept[__atomic_fetch_add(&n_kept, 1, __ATOMIC_RELAXED) % 4096] = malloc(888888);
	reach(3);
	await(4);
	kept[__atomic_fetch_add(&n_kept, 1, __ATOMIC_RELAXED) % 4096] = malloc(999999);
	reach(5);
	for (;;)
		pause();
	Py_END_ALLOW_THREADS
	Py_RETURN_NONE;
}

// advance(stage): lets the thread that lingers go that far, and waits for it.
static PyObject *host_advance(PyObject *self, PyObject *arg)
{
	(void)self;
	reach((int)PyLong_AsLong(arg));
	await((int)PyLong_AsLong(arg) + 1);
	Py_RETURN_NONE;
}

static PyObject *host_await_work(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	Py_BEGIN_ALLOW_THREADS
	await(1);
	Py_END_ALLOW_THREADS
	Py_RETURN_NONE;
}

// What is left in sys dies when the other threads' states are gone and the interpreter is not yet.
static void token_dies(PyObject *token)
{
	(void)token;
	reach(2);
	await(3);
}

static PyObject *host_token(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyCapsule_New(&stage, NULL, token_dies);
}

// step(): one of them has come further.
static PyObject *host_step(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	__atomic_fetch_add(&stage, 1, __ATOMIC_SEQ_CST);
	Py_RETURN_NONE;
}

// reached(n): how far have they come?
static PyObject *host_reached(PyObject *self, PyObject *arg)
{
	(void)self;
	return PyBool_FromLong(__atomic_load_n(&stage, __ATOMIC_SEQ_CST) >= PyLong_AsLong(arg));
}

static PyMethodDef methods[] = {
    {"keep", host_keep, METH_O, NULL},
    {"work", host_work, METH_NOARGS, NULL},
    {"linger", host_linger, METH_NOARGS, NULL},
    {"advance", host_advance, METH_O, NULL},
    {"await_work", host_await_work, METH_NOARGS, NULL},
    {"token", host_token, METH_NOARGS, NULL},
    {"step", host_step, METH_NOARGS, NULL},
    {"reached", host_reached, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "host", .m_methods = methods, .m_slots = slots};

static PyObject *init_host(void) { return PyModuleDef_Init(&definition); }

// ---- scripts -------------------------------------------------------------------------------------------

static void script(const char *text)
{
	if (PyRun_SimpleString(text) != 0)
		exit(9);
}

static void keep_in(const char *function, int size)
{
	char text[500];
	snprintf(text, sizeof(text),
		 "import _json, host, math\n" // whoever looks at what is loaded does so now
		 "def %s():\n"
		 "    kept = sorted((str(i) * i for i in range(200)), key=len)\n"
		 "    host.keep(%d)\n"
		 "    return len(kept)\n"
		 "print('%s', %s(), flush=True)\n",
		 function, size, function, function);
	script(text);
}

// Without site, whose work depends on what is installed.
static void begin(void)
{
	PyConfig config;
	PyConfig_InitPythonConfig(&config);
	config.site_import = 0;
	if (PyStatus_Exception(Py_InitializeFromConfig(&config)))
		exit(8);
	PyConfig_Clear(&config);
}

static void finish(void) { printf("finalised %d\n", Py_FinalizeEx()); }

static void churn(const char *name, int count)
{
	char text[300];
	snprintf(text, sizeof(text),
		 "kept = []\n"
		 "for i in range(%d):\n"
		 "    kept.append((i, str(i) * (i %% 40), [i]))\n"
		 "    if i %% 3: kept[i // 2] = None\n"
		 "print('%s', sum(1 for one in kept if one))\n",
		 count, name);
	script(text);
}

// ---- cases ---------------------------------------------------------------------------------------------

// Each block is a mapping: nobody can look at what was freed, and the heap has nothing of it.
static void *page_malloc(void *context, size_t size)
{
	(void)context;
	size_t *p = mmap(NULL, size + 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	p[0] = size;
	return p + 2;
}

static void *page_calloc(void *context, size_t n, size_t size) { return page_malloc(context, n * size); }

static void page_free(void *context, void *block)
{
	(void)context;
	if (block)
		munmap((size_t *)block - 2, ((size_t *)block)[-2] + 16);
}

static void *page_realloc(void *context, void *block, size_t size)
{
	void *p = page_malloc(context, size);
	if (p && block) {
		size_t old = ((size_t *)block)[-2];
		memcpy(p, block, old < size ? old : size);
		page_free(context, block);
	}
	return p;
}

static void use_pages(void)
{
	PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &(PyMemAllocatorEx){NULL, page_malloc, page_calloc, page_realloc, page_free});
}

static void again(void)
{
	static const char *const names[] = {"first", "second", "third"};
	PyMemAllocatorEx usual;
	PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &usual);
	for (int i = 0; i < 3; i++) {
		if (i == 1 && PY_VERSION_HEX < 0x030b0000) // later ones stand in a place of their own
			use_pages(); // so that this one stands where none has stood
		begin();
		script("def early():\n" // before anything is imported that anybody could notice
		       "    return [bytes(300) for _ in range(500)]\n"
		       "print(len(early()))\n");
		keep_in(names[i], 111111 * (i + 1));
		churn(names[i], 20000);
		finish();
		if (i == 1)
			PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &usual);
	}
}

static void daemons(void)
{
	begin();
	script("import threading, time\n"
	       "def churn(begun, wait):\n"
	       "    number = 0\n"
	       "    while True:\n"
	       "        text = [str(number + i) * 20 for i in range(50)]\n"
	       "        number += 1\n"
	       "        begun.set()\n"
	       "        time.sleep(wait)\n"
	       "for wait in (0, 0, 0.001, 1000):\n"
	       "    begun = threading.Event()\n"
	       "    threading.Thread(target=churn, args=(begun, wait), daemon=True).start()\n"
	       "    begun.wait()\n"
	       "print('begun', flush=True)\n");
	finish();
}

static void released(void)
{
	use_pages(); // for threads' states
	begin();
	script("import host, sys, threading\n"
	       "def deep(n):\n"
	       "    return deep(n - 1) if n else host.work()\n"
	       "threading.Thread(target=deep, args=(50,), daemon=True).start()\n"
	       "host.await_work()\n"
	       "sys.token = host.token()\n"
	       "print('working', flush=True)\n");
	finish();
	reach(4);
	await(5);
	puts("worked on");
	begin(); // that thread has no state in this one
	keep_in("afterwards", 777777);
	finish();
}

// What is registered first is called last: when we know already that the end has come.
static void leaving(void)
{
	begin();
	script("import atexit, host\n"
	       "atexit.register(host.advance, 4)\n"
	       "import _json, math, threading\n"
	       "def deep(n):\n"
	       "    return deep(n - 1) if n else host.linger()\n"
	       "threading.Thread(target=deep, args=(5,), daemon=True).start()\n"
	       "host.await_work()\n"
	       "host.advance(2)\n"
	       "print('leaving', flush=True)\n");
	finish();
}

static void interpreters(void)
{
	begin();
	keep_in("in_main", 222222);
	PyThreadState *main_state = PyThreadState_Get();
	for (int i = 0; i < 3; i++) {
		PyThreadState *sub = Py_NewInterpreter();
		keep_in("in_sub", 333333);
		churn("sub", 3000);
		if (i == 1) { // two at a time
			PyThreadState *other = Py_NewInterpreter();
			keep_in("in_other", 444444);
			Py_EndInterpreter(other);
			PyThreadState_Swap(sub);
			churn("sub again", 3000);
		}
		Py_EndInterpreter(sub);
		PyThreadState_Swap(main_state);
		keep_in("in_main_again", 555555);
	}
	finish();
}

#if PY_VERSION_HEX >= 0x030c0000
static int run_own_gil(const char *text)
{
	PyInterpreterConfig config = {
	    .allow_threads = 1, .check_multi_interp_extensions = 1, .gil = PyInterpreterConfig_OWN_GIL,
	};
	PyThreadState *state = NULL;
	PyGILState_STATE held = PyGILState_Ensure();
	PyThreadState *mine = PyThreadState_Get();
	if (PyStatus_Exception(Py_NewInterpreterFromConfig(&state, &config)))
		exit(7);
	int result = PyRun_SimpleString(text);
	Py_EndInterpreter(state);
	PyThreadState_Swap(mine);
	PyGILState_Release(held);
	return result;
}

static void *run_and_keep(void *result)
{
	*(int *)result = run_own_gil("import host\n"
				     "def in_own():\n"
				     "    kept = []\n"
				     "    for i in range(15000):\n"
				     "        kept.append((i, str(i) * (i % 40), [i]))\n"
				     "        if i % 3: kept[i // 2] = None\n"
				     "    host.keep(666666)\n"
				     "in_own()\n");
	return NULL;
}

static void *run_for_ever(void *result)
{
	*(int *)result = run_own_gil("import host\n"
				     "host.step()\n"
				     "while not host.reached(10):\n"
				     "    kept = [(i, str(i) * (i % 40), [i]) for i in range(100)]\n");
	return NULL;
}
#endif

// Two interpreters that run at the same time, beside the main one.
static void own_gil(void)
{
	begin();
	keep_in("in_main", 222222);
#if PY_VERSION_HEX >= 0x030c0000
	pthread_t threads[2];
	int results[2];
	PyThreadState *state = PyEval_SaveThread();
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, run_and_keep, &results[i]);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		printf("own %d\n", results[i]);
	}
	PyEval_RestoreThread(state);
#endif
	keep_in("in_main_again", 555555);
	finish();
}

// ---- threads that ask domain RAW -----------------------------------------------------------------------

enum { RAW_THREADS = 4, RAW_BLOCKS = 5000 };
static void *raw_kept[RAW_THREADS][RAW_BLOCKS];

static void *keep_raw(void *mine)
{
	void **block = mine;
	for (int i = 0; i < RAW_BLOCKS; i++) {
		block[i] = PyMem_RawRealloc(i % 2 ? PyMem_RawMalloc(50) : NULL, 333);
		PyMem_RawFree(PyMem_RawCalloc(10, 20));
	}
	return NULL;
}

// They have nothing to do with the interpreter and its lock.
static void raw(void)
{
	pthread_t threads[RAW_THREADS];
	begin();
	for (int i = 0; i < RAW_THREADS; i++)
		pthread_create(&threads[i], NULL, keep_raw, raw_kept[i]);
	churn("beside", 3000);
	for (int i = 0; i < RAW_THREADS; i++)
		pthread_join(threads[i], NULL);
	finish();
}

static void *use_raw(void *unused)
{
	__atomic_fetch_add(&stage, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&stage, __ATOMIC_SEQ_CST) < 10)
		PyMem_RawFree(PyMem_RawRealloc(PyMem_RawMalloc(50), 100));
	return unused;
}

// The allocators that the interpreter chose are put back again and again, beside threads that use them.
static void put_back_usual(void)
{
	PyMemAllocatorEx usual[3];
	pthread_t user;
	PyPreConfig config;
	PyPreConfig_InitPythonConfig(&config);
	config.allocator = PYMEM_ALLOCATOR_PYMALLOC; // nobody stands in front of these
	if (PyStatus_Exception(Py_PreInitialize(&config)))
		exit(8);
	for (int i = 0; i < 3; i++)
		PyMem_GetAllocator(domains[i], &usual[i]);
	begin();
	pthread_create(&user, NULL, use_raw, NULL);
	int users = 1;
#if PY_VERSION_HEX >= 0x030c0000
	pthread_t threads[2];
	int results[2];
	PyThreadState *state = PyEval_SaveThread();
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, run_for_ever, &results[i]);
	await(users += 2);
	PyEval_RestoreThread(state);
#endif
	await(users);
	for (int i = 0; i < 10000; i++) {
		for (int domain = 0; domain < 3; domain++)
			PyMem_SetAllocator(domains[domain], &usual[domain]);
		dlsym(RTLD_DEFAULT, "no_such_function"); // whoever looks at what is loaded does so now
	}
	reach(10);
	pthread_join(user, NULL);
#if PY_VERSION_HEX >= 0x030c0000
	state = PyEval_SaveThread();
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		printf("own %d\n", results[i]);
	}
	PyEval_RestoreThread(state);
#endif
	finish();
}

// ---- allocators of the application's own ---------------------------------------------------------------

static PyMemAllocatorEx before[3];
static long calls;

static void *front_malloc(void *context, size_t size)
{
	PyMemAllocatorEx *original = context;
	__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
	return original->malloc(original->ctx, size);
}

static void *front_calloc(void *context, size_t n, size_t size)
{
	PyMemAllocatorEx *original = context;
	__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
	return original->calloc(original->ctx, n, size);
}

static void *front_realloc(void *context, void *p, size_t size)
{
	PyMemAllocatorEx *original = context;
	__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
	return original->realloc(original->ctx, p, size);
}

static void front_free(void *context, void *p)
{
	PyMemAllocatorEx *original = context;
	original->free(original->ctx, p);
}

static void put_in_front(void)
{
	for (int i = 0; i < 3; i++) {
		PyMem_GetAllocator(domains[i], &before[i]);
		PyMemAllocatorEx mine = {&before[i], front_malloc, front_calloc, front_realloc, front_free};
		PyMem_SetAllocator(domains[i], &mine);
	}
}

static void put_back(void)
{
	for (int i = 0; i < 3; i++)
		PyMem_SetAllocator(domains[i], &before[i]);
	printf("called %d\n", calls > 1000);
	calls = 0;
}

// Before the interpreter is there and while it runs; taken away again while it runs and when it is gone.
static void in_front(void)
{
	put_in_front();
	begin();
	churn("in front", 3000);
	keep_in("behind", 111111);
	finish();
	put_back();
	for (int i = 0; i < 2; i++) {
		begin();
		churn("before", 3000);
		put_in_front();
		churn("in front", 3000);
		script("import _json, math, unicodedata\n");
		keep_in("meanwhile", 222222);
		put_back();
		churn("taken back", 3000);
		keep_in("after", 333333);
		finish();
	}
}

// Blocks with a header in front, so that one that goes to another allocator does not go unnoticed.
#define MAGIC 0x6d65726b6d61676bUL

static void *own_malloc(void *context, size_t size)
{
	(void)context;
	calls++;
	unsigned long *p = size > PY_SSIZE_T_MAX ? NULL : malloc(size + 16);
	if (!p)
		return NULL;
	p[0] = MAGIC;
	p[1] = size;
	return p + 2;
}

static void *own_calloc(void *context, size_t n, size_t size)
{
	void *p = own_malloc(context, n * size);
	return p ? memset(p, 0, n * size) : NULL;
}

static void own_free(void *context, void *block)
{
	(void)context;
	unsigned long *p = block;
	if (!p)
		return;
	if (p[-2] != MAGIC)
		abort();
	p[-2] = 0;
	free(p - 2);
}

static void *own_realloc(void *context, void *block, size_t size)
{
	void *p = own_malloc(context, size);
	if (p && block) {
		size_t old = ((unsigned long *)block)[-1];
		memcpy(p, block, old < size ? old : size);
		own_free(context, block);
	}
	return p;
}

static void replaced(void)
{
	for (int i = 1; i < 3; i++) {
		PyMem_GetAllocator(domains[i], &before[i]);
		PyMemAllocatorEx mine = {NULL, own_malloc, own_calloc, own_realloc, own_free};
		PyMem_SetAllocator(domains[i], &mine);
	}
	begin();
	churn("own", 3000);
	keep_in("with_own", 111111);
	finish();
	printf("called %d\n", calls > 1000);
}

// ---- which -------------------------------------------------------------------------------------------

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
	    {"again", again}, {"daemons", daemons}, {"released", released}, {"leaving", leaving}, {"interpreters", interpreters},
	    {"own_gil", own_gil}, {"raw", raw}, {"put_back", put_back_usual}, {"in_front", in_front}, {"replaced", replaced},
	};
	setvbuf(stdout, NULL, _IOLBF, 0);
	PyImport_AppendInittab("host", init_host);
	for (unsigned i = 0; argc > 1 && i < sizeof(cases) / sizeof(cases[0]); i++)
		if (strcmp(argv[1], cases[i].name) == 0) {
			cases[i].run();
			puts("end");
			return 3;
		}
	return 2;
}
