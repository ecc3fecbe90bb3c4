// pygil.c -- what is done with the interpreter's help
//
// Context:   cold, and with the GIL. While an extension module is imported no Python code is run: that may hand over the
//            GIL, and the importing thread may hold locks of the loader that the next one waits for.
// Invariant: no thread is made into one of Python's, and what is allocated here is no answer's business.
// Why:       frames are read by offsets (pyframes.c). Here they are held once against the interpreter's own functions.
// Proof:     tests/integration/test_python_frames.py, test_python_self_test.py
#include "pygil.h"

#include "atomics.h"
#include "pyframes.h"
#include "pyruntime.h"
#include "sampler.h"

#define METH_NOARGS 4

static uintptr_t function(const char *name) { return pyruntime_function(name); }

bool pygil_is_initialised(void)
{
	uintptr_t at = pyruntime.layout ? function("Py_IsInitialized") : 0;
	return at && ((int (*)(void))at)();
}

bool pygil_call(bool may_take, void (*work)(void))
{
	static uintptr_t has_gil, take, give; // looked up once, by whoever: the same each time
	if (pyframes_state() != MLF_PYTHON_FRAMES)
		return false;
	uintptr_t thread = pyframes_thread();
	if (!thread || (pyruntime.current() != thread && !may_take))
		return false; // not a thread of Python's, and nothing is made into one; or it does not have the GIL
	if (!load_relaxed(&give)) {
		store_relaxed(&has_gil, function("PyGILState_Check"));
		store_relaxed(&take, function("PyGILState_Ensure"));
		store_relaxed(&give, function("PyGILState_Release"));
	}
	if (!has_gil || !take || !give)
		return false;
	// The first word is not enough: with sub-interpreters about, it is always yes.
	bool has = ((int (*)(void))has_gil)() && pyruntime.current() == thread;
	if (!has && !may_take)
		return false;
	uint8_t was_busy = sampler_self.busy;
	sampler_self.busy = SAMPLER_NOT_THE_PROGRAM; // objects are made for us
	int state = has ? 0 : ((int (*)(void))take)();
	work();
	if (!has)
		((void (*)(int))give)(state);
	sampler_self.busy = was_busy;
	return true;
}

// ---- the end of the interpreter ------------------------------------------------------------------

static bool registered;
static bool end_noted; // by the function below

// Registered with atexit: called before anything is freed. What was registered before it runs after it.
static uintptr_t note_end(uintptr_t self, uintptr_t arguments)
{
	(void)self, (void)arguments;
	end_noted = true;
	pyframes_note_end(pyruntime.current());
	return ((uintptr_t(*)(long))function("PyBool_FromLong"))(1);
}

static uintptr_t find_atexit(bool may_import)
{
	uintptr_t import = function("PyImport_ImportModule"), get = function("PyImport_GetModule"), text = function("PyUnicode_FromString");
	void (*decref)(uintptr_t) = (void (*)(uintptr_t))function("Py_DecRef");
	if (may_import && import)
		return ((uintptr_t(*)(const char *))import)("atexit");
	uintptr_t name = get && text ? ((uintptr_t(*)(const char *))text)("atexit") : 0;
	uintptr_t module = name ? ((uintptr_t(*)(uintptr_t))get)(name) : 0;
	if (name)
		decref(name);
	return module;
}

static bool register_note(bool may_import)
{
	static struct { // PyMethodDef
		const char *name;
		uintptr_t (*call)(uintptr_t, uintptr_t);
		int flags;
		const char *doc;
	} definition = {"memleak_note_end", note_end, METH_NOARGS, NULL};
	uintptr_t make = function("PyCFunction_NewEx"), call = function("PyObject_CallMethod");
	void (*decref)(uintptr_t) = (void (*)(uintptr_t))function("Py_DecRef");
	if (!make || !call || !function("PyBool_FromLong"))
		return false;
	uintptr_t module = find_atexit(may_import);
	uintptr_t self = module ? ((uintptr_t(*)(void *, uintptr_t, uintptr_t))make)(&definition, 0, 0) : 0;
	uintptr_t result = self ? ((uintptr_t(*)(uintptr_t, const char *, const char *, ...))call)(module, "register", "O", self) : 0;
	const uintptr_t made[] = {module, self, result};
	for (unsigned i = 0; i < ARRAY_LEN(made); i++)
		if (made[i])
			decref(made[i]);
	return result;
}

void pygil_watch_end(bool may_import)
{
	if (end_noted && !pyframes_is_ending()) { // it was begun again, or the functions were called without an end
		pyframes_note_end(0);
		registered = end_noted = false;
	}
	if (registered || end_noted)
		return;
	uintptr_t fetch = function("PyErr_Fetch"), restore = function("PyErr_Restore");
	if (!fetch || !restore)
		return;
	uintptr_t type, value, trace;
	((void (*)(uintptr_t *, uintptr_t *, uintptr_t *))fetch)(&type, &value, &trace);
	registered = register_note(may_import);
	((void (*)(uintptr_t, uintptr_t, uintptr_t))restore)(type, value, trace); // an error of ours goes
}

// ---- self-test -----------------------------------------------------------------------------------

// Do our walk and the interpreter name the same frames? Between two instructions of Python.
static bool walk_agrees(uintptr_t thread)
{
	uintptr_t (*get_frame)(void) = (uintptr_t(*)(void))function("PyEval_GetFrame");
	uintptr_t (*get_back)(uintptr_t) = (uintptr_t(*)(uintptr_t))function("PyFrame_GetBack");
	uintptr_t (*get_code)(uintptr_t) = (uintptr_t(*)(uintptr_t))function("PyFrame_GetCode");
	int (*get_last)(uintptr_t) = (int (*)(uintptr_t))function("PyFrame_GetLasti"); // from 3.11 on
	void (*decref)(uintptr_t) = (void (*)(uintptr_t))function("Py_DecRef");
	if (!get_frame || !get_back || !get_code || !decref)
		return false;
	uintptr_t frame = pyframes_innermost(thread), object = get_frame();
	struct pyframes_place place;
	bool borrowed = true, same = true;
	while (same && pyframes_next(&frame, &place)) {
		if (!place.shown)
			continue;
		uintptr_t its = object ? get_code(object) : 0;
		same = its && place.code == its;
		if (same && get_last && place.offset != MLF_PYTHON_FRAME_NOT_BEGUN)
			same = (uint32_t)get_last(object) == place.offset;
		if (its)
			decref(its);
		uintptr_t back = object ? get_back(object) : 0;
		if (object && !borrowed)
			decref(object);
		object = back;
		borrowed = false;
	}
	same = same && !object;
	if (object && !borrowed)
		decref(object);
	return same;
}

// The words of _PyRuntime that tell of sub-interpreters.
static bool runtime_agrees(void)
{
	uintptr_t get_newest = function("PyInterpreterState_Head"), get_main = function("PyInterpreterState_Main");
	const uintptr_t *newest = (const uintptr_t *)(pyruntime.at + pyruntime.layout->runtime_interpreters);
	const uintptr_t *main = (const uintptr_t *)(pyruntime.at + pyruntime.layout->runtime_main);
	return get_newest && get_main && ((uintptr_t(*)(void))get_newest)() == *newest && ((uintptr_t(*)(void))get_main)() == *main;
}

void pygil_self_test(void)
{
	static bool tested;
	uintptr_t thread = pyframes_thread();
	if (tested || !thread || !pyframes_innermost(thread))
		return;
	if (!runtime_agrees() || !walk_agrees(thread))
		pyframes_fail_self_test();
	tested = true;
}
