// pygil.c -- what is done with the interpreter's help
//
// Context:   cold, and with the GIL. Called while an extension module is imported: no Python code is run.
// Invariant: no thread is made into one of Python's, and what is allocated here is no answer's business.
// Why:       frames are read by offsets (pyframes.c). Here they are held once against the interpreter's own functions.
// Proof:     tests/integration/test_python_frames.py, test_python_self_test.py
#include "pygil.h"

#include "pyframes.h"
#include "pyruntime.h"
#include "sampler.h"

static uintptr_t function(const char *name) { return pyruntime_function(name); }

bool pygil_is_initialised(void)
{
	uintptr_t at = pyruntime.layout ? function("Py_IsInitialized") : 0;
	return at && ((int (*)(void))at)();
}

bool pygil_call(bool may_take, void (*work)(void))
{
	if (pyframes_state() != MLF_PYTHON_FRAMES)
		return false;
	uintptr_t has_gil = function("PyGILState_Check"), take = function("PyGILState_Ensure"), give = function("PyGILState_Release");
	uintptr_t thread = pyframes_thread();
	if (!has_gil || !take || !give || !thread)
		return false; // not a thread of Python's: nothing is made into one
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
		uintptr_t its = object ? get_code(object) : 0;
		same = its && place.code == its;
		if (same && get_last)
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

void pygil_self_test(void)
{
	static bool tested;
	uintptr_t thread = pyframes_thread();
	if (tested || !thread || !pyframes_innermost(thread))
		return;
	if (!walk_agrees(thread))
		pyframes_fail_self_test();
	tested = true;
}
