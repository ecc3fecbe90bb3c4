// fake_python.h -- the memory of a CPython 3.9, as far as the core reads it, in the test itself
//
// A program that includes this is linked with -rdynamic: then it has the dynamic symbols by which the core finds an
// interpreter. Offsets are those of the core's own table, which tests/test_pylayout.py holds against the headers.
#ifndef FAKE_PYTHON_H
#define FAKE_PYTHON_H

#include "fixture.h"

#include "pylayout.h"

#define SHOWN __attribute__((visibility("default")))

static uint64_t fake_interpreters[2][8];
static uint64_t fake_states[8][64]; // PyThreadState
static uint32_t fake_states_used;
static _Thread_local uint64_t *fake_own_state; // of this thread in the main interpreter
static uint64_t *fake_holder;                  // the state that has the GIL
static unsigned fake_deaths;
static void (*fake_asked_version)(void); // called while the core asks

static void fake_code_dies(uintptr_t object)
{
	(void)object;
	__atomic_fetch_add(&fake_deaths, 1, __ATOMIC_RELAXED);
}

SHOWN uint64_t PyCode_Type[64], PyFrame_Type[64], _PyRuntime[128];

SHOWN const char *Py_GetVersion(void);
SHOWN void *PyGILState_GetThisThreadState(void);
SHOWN void *_PyThreadState_UncheckedGet(void);
SHOWN void *PyThreadState_GetInterpreter(const uint64_t *state);
SHOWN uint64_t PyThreadState_GetID(const uint64_t *state);

const char *Py_GetVersion(void)
{
	if (fake_asked_version)
		fake_asked_version();
	return "3.9.18 (fake)";
}

void *PyGILState_GetThisThreadState(void) { return fake_own_state; }
void *_PyThreadState_UncheckedGet(void) { return load_relaxed(&fake_holder); }

static inline const struct pylayout *fake_layout(void)
{
	enum mlf_python state;
	return pylayout_of(0x03091200, NULL, &state);
}

void *PyThreadState_GetInterpreter(const uint64_t *state) { return (void *)(uintptr_t)state[fake_layout()->thread_interp / 8]; }
uint64_t PyThreadState_GetID(const uint64_t *state) { return state[fake_layout()->thread_id / 8]; }

#define WORD(object, offset) (((uint64_t *)(void *)(object))[(offset) / 8])

static inline void fake_begin(void)
{
	const struct pylayout *l = fake_layout();
	WORD(PyCode_Type, PYLAYOUT_TYPE_BASIC_SIZE) = l->code_bytes;
	WORD(PyCode_Type, PYLAYOUT_TYPE_DEALLOC) = (uintptr_t)&fake_code_dies;
	WORD(PyFrame_Type, PYLAYOUT_TYPE_BASIC_SIZE) = l->frame_bytes;
	WORD(_PyRuntime, l->runtime_main) = WORD(_PyRuntime, l->runtime_interpreters) = (uintptr_t)fake_interpreters[0];
}

// A state of the calling thread's; it does not have the GIL.
static inline uint64_t *fake_state(unsigned interpreter)
{
	uint64_t *state = fake_states[__atomic_fetch_add(&fake_states_used, 1, __ATOMIC_RELAXED) % 8];
	state[fake_layout()->thread_interp / 8] = (uintptr_t)fake_interpreters[interpreter];
	state[fake_layout()->thread_frame / 8] = 0;
	return state;
}

// A compact ASCII str.
static inline uintptr_t fake_text(const char *text)
{
	size_t length = strlen(text);
	char *object = calloc(1, 64 + length);
	WORD(object, PYLAYOUT_TEXT_LENGTH) = length;
	WORD(object, PYLAYOUT_TEXT_STATE) = 1U << 2 | 1U << 5 | 1U << 6;
	memcpy(object + fake_layout()->text_ascii, text, length);
	return (uintptr_t)object;
}

static inline uintptr_t fake_bytes(size_t length)
{
	uint64_t *object = calloc(1, 64 + length);
	WORD(object, PYLAYOUT_VAR_SIZE) = length;
	return (uintptr_t)object;
}

static inline void fake_code(void *at, const char *file, const char *name, int first_line)
{
	const struct pylayout *l = fake_layout();
	memset(at, 0, l->code_bytes);
	WORD(at, PYLAYOUT_OBJECT_TYPE) = (uintptr_t)PyCode_Type;
	WORD(at, l->code_file) = fake_text(file);
	WORD(at, l->code_name) = fake_text(name);
	WORD(at, l->code_first_line) = (uint32_t)first_line;
	WORD(at, l->code_lines) = fake_bytes(8);
	WORD(at, l->code_instructions) = fake_bytes(64);
}

static inline void fake_frame(void *at, uintptr_t code, uintptr_t back)
{
	const struct pylayout *l = fake_layout();
	memset(at, 0, l->frame_bytes);
	WORD(at, l->frame_code) = code;
	WORD(at, l->frame_back) = back;
	WORD(at, l->frame_last) = 2;
}

#endif
