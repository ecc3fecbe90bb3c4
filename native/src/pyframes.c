// pyframes.c -- the Python half of a backtrace
//
// Context:   pyframes_walk() and pyframes_store() are sampled; attaching and the self-test are cold.
// Invariant: only this thread's own frames are read: nobody else changes them, and this thread is inside C code. No
//            reference is taken and nothing of Python is called, but the two functions that return the thread's
//            state and do nothing else.
// Why:       the GIL may be held by another thread, or be about to be waited for: a library may allocate without it.
//            A thread's own state is found through its thread-local slot then.
// Proof:     tests/integration/test_python_stacks.py, test_python_frames.py
#include "pyframes.h"

#include "atomics.h"
#include "elfimage.h"
#include "index.h"
#include "objects.h"
#include "pycode.h"
#include "recording.h"
#include "sampler.h"
#include "stats.h"
#include "sys.h"

#define STEPS_MOST 4096U // frames and shims looked at: a chain that is longer is no chain

static struct {
	enum mlf_python state; // FRAMES: everything below is set
	uint32_t version;
	const struct pylayout *layout;
	uintptr_t (*current)(void);  // PyThreadState of the thread that holds the GIL if it is this one (3.12 and later)
	uintptr_t (*by_thread)(void); // this thread's, by its thread-local slot
	uintptr_t (*main)(void);      // the main interpreter, 0 before there is one
	uintptr_t main_interpreter;
	const uintptr_t *finalizing; // the state of the thread that ends the interpreter
	bool tested;
} python;

// ---- attaching -----------------------------------------------------------------------------------

struct search {
	uintptr_t reference_debug, version, get_version, runtime, code_type, current, by_thread, main;
	uintptr_t is_initialised, has_gil, take_gil, give_gil, get_frame, get_back, get_code, get_last, decref; // for the self-test
};
static struct search found; // constant once python.state is set

// Under the loader's lock, so that its list holds still.
static int find_symbols(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)info, (void)bytes, (void)context;
	found.code_type = elf_global_symbol("PyCode_Type");
	if (!found.code_type)
		return 1;
	found.reference_debug = elf_global_symbol("_Py_NegativeRefcount");
	found.version = elf_global_symbol("Py_Version");
	found.get_version = elf_global_symbol("Py_GetVersion");
	found.runtime = elf_global_symbol("_PyRuntime");
	found.by_thread = elf_global_symbol("PyGILState_GetThisThreadState");
	found.current = elf_global_symbol("PyThreadState_GetUnchecked");
	if (!found.current)
		found.current = elf_global_symbol("_PyThreadState_UncheckedGet");
	found.main = elf_global_symbol("PyInterpreterState_Main");
	found.is_initialised = elf_global_symbol("Py_IsInitialized");
	found.has_gil = elf_global_symbol("PyGILState_Check");
	found.take_gil = elf_global_symbol("PyGILState_Ensure");
	found.give_gil = elf_global_symbol("PyGILState_Release");
	found.get_frame = elf_global_symbol("PyEval_GetFrame");
	found.get_back = elf_global_symbol("PyFrame_GetBack");
	found.get_code = elf_global_symbol("PyFrame_GetCode");
	found.get_last = elf_global_symbol("PyFrame_GetLasti");
	found.decref = elf_global_symbol("Py_DecRef");
	return 1;
}

// "3.10.13 (main, …" of the versions that have no Py_Version.
static uint32_t parse_version(const char *text)
{
	uint32_t part[3] = {0, 0, 0};
	for (unsigned i = 0; i < 3; i++) {
		while (*text >= '0' && *text <= '9')
			part[i] = part[i] * 10 + (uint32_t)(*text++ - '0');
		if (*text++ != '.')
			break;
	}
	return part[0] << 24 | part[1] << 16 | part[2] << 8;
}

static void learn_main_interpreter(void)
{
	uintptr_t main = python.main ? python.main() : 0;
	if (main) // one that was begun again after its end may be elsewhere
		store_relaxed(&python.main_interpreter, main);
}

static bool forbidden;

void pyframes_allow(bool allowed) { store_relaxed(&forbidden, !allowed); }
bool pyframes_is_allowed(void) { return !load_relaxed(&forbidden); }
bool pyframes_is_attached(void) { return load_relaxed(&python.state) != MLF_PYTHON_NONE; }

enum mlf_python pyframes_attach(void)
{
	if (forbidden)
		return MLF_PYTHON_OFF;
	if (python.state != MLF_PYTHON_NONE) {
		learn_main_interpreter();
		return python.state;
	}
	objects_each(find_symbols, NULL);
	if (!found.code_type || !found.by_thread || !found.runtime || (!found.version && !found.get_version))
		return MLF_PYTHON_NONE;
	python.version = found.version ? (uint32_t)*(const unsigned long *)found.version
				       : parse_version(((const char *(*)(void))found.get_version)());
	enum mlf_python state;
	python.layout = pylayout_of(python.version, (const void *)found.runtime, &state);
	if (found.reference_debug) { // a debug build: some of them have two words more in each object
		state = MLF_PYTHON_UNKNOWN_VERSION;
		python.layout = NULL;
	}
	if (python.layout) {
		python.by_thread = (uintptr_t(*)(void))found.by_thread;
		python.current = python.layout->minor >= 12 ? (uintptr_t(*)(void))found.current : NULL;
		python.main = (uintptr_t(*)(void))found.main;
		python.finalizing = (const uintptr_t *)(found.runtime + python.layout->runtime_finalizing);
		learn_main_interpreter();
		pycode_attach(python.layout, found.code_type);
	}
	store_release(&python.state, state); // last: sampled code looks at nothing before
	return python.state;
}

bool pyframes_is_initialised(void) { return found.is_initialised && ((int (*)(void))found.is_initialised)(); }
uint32_t pyframes_version(void) { return python.version; }
size_t pyframes_arena_bytes(void) { return python.layout ? (size_t)python.layout->arena_kib << 10 : 0; }

// ---- walking -------------------------------------------------------------------------------------

static uintptr_t word_at(uintptr_t object, unsigned offset) { return *(const uintptr_t *)(object + offset); }

static uintptr_t this_thread(void)
{
	uintptr_t thread = python.current ? python.current() : 0;
	if (!thread)
		thread = python.by_thread();
	if (!thread)
		return 0; // not a thread of Python's
	// First the interpreter says that it ends, then it frees the states of all threads but this one; the slots of those
	// that are in code without the GIL go on naming them.
	uintptr_t finalizing = load_relaxed(python.finalizing);
	if (unlikely(finalizing) && finalizing != thread)
		return 0;
	// The slot of a thread that runs in a sub-interpreter names its state in the main one.
	uintptr_t interpreter = word_at(thread, python.layout->thread_interp);
	uintptr_t main = load_relaxed(&python.main_interpreter);
	return !main || interpreter == main ? thread : 0;
}

static uintptr_t innermost_frame(uintptr_t thread)
{
	const struct pylayout *l = python.layout;
	if (l->thread_cframe == PYLAYOUT_NONE)
		return word_at(thread, l->thread_frame);
	uintptr_t cframe = word_at(thread, l->thread_cframe);
	return cframe ? word_at(cframe, l->cframe_frame) : 0; // none yet at a thread's birth
}

// Offset in bytes of the instruction that the frame executes. A frame that was just made points before its code, or
// is at what only prepares the code proper: cells, the generator object.
static uint32_t instruction_of(uintptr_t frame, uintptr_t code)
{
	const struct pylayout *l = python.layout;
	uint32_t size = pycode_instruction_bytes(code);
	uint64_t offset, first = 0;
	if (l->code_first_traceable == PYLAYOUT_NONE) {
		int32_t last = *(const int32_t *)(frame + l->frame_last);
		offset = last < 0 ? MLF_PYTHON_FRAME_NOT_BEGUN : (uint64_t)last * (l->minor == 10 ? 2 : 1);
	} else {
		offset = word_at(frame, l->frame_last) - (code + l->code_instructions);
		first = *(const uint32_t *)(code + l->code_first_traceable) * 2ULL;
	}
	return offset >= first && offset < size ? (uint32_t)offset : MLF_PYTHON_FRAME_NOT_BEGUN;
}

static bool is_shim(uintptr_t frame)
{
	const struct pylayout *l = python.layout;
	return l->minor >= 12 && *(const uint8_t *)(frame + l->frame_owner) == PYLAYOUT_OWNER_C_STACK;
}

// Code of the interpreter's own that never begins, in a frame between __init__ and who makes the object (3.12 and later).
static bool is_glue(uintptr_t code)
{
	const struct pylayout *l = python.layout;
	return l->minor >= 12 && *(const uint32_t *)(code + l->code_first_traceable) * 2ULL >= pycode_instruction_bytes(code);
}

static bool is_entry(uintptr_t frame)
{
	const struct pylayout *l = python.layout;
	return l->minor < 11 || (l->frame_is_entry != PYLAYOUT_NONE && *(const uint8_t *)(frame + l->frame_is_entry));
}

static uint64_t fold(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * MLF_CHECK_1;
	return hash ^ hash >> 31;
}

unsigned pyframes_walk(uint64_t *frames, unsigned max, uint64_t *hash, bool *truncated)
{
	*hash = 0;
	*truncated = false;
	// Acquire: pairs with pyframes_attach().
	if (load_acquire(&python.state) != MLF_PYTHON_FRAMES || load_relaxed(&forbidden))
		return 0;
	uintptr_t thread = this_thread();
	uintptr_t frame = thread ? innermost_frame(thread) : 0;
	unsigned n = 0, steps = 0, run = 0; // run: where the frames of this run of the interpreter begin
	for (; frame; frame = word_at(frame, python.layout->frame_back)) {
		if (unlikely(frame % 8 || steps++ == STEPS_MOST)) {
			count(python_unreadable);
			*truncated = true;
			break;
		}
		bool shim = is_shim(frame);
		uintptr_t code = shim ? 0 : word_at(frame, python.layout->frame_code);
		if (shim && n > run) {
			frames[n - 1] |= MLF_PYTHON_FRAME_ENTRY;
			run = n;
			continue;
		}
		if (!shim && (!pycode_is_code(code) || is_glue(code)))
			continue; // 3.13 puts None there for what has no code
		if (n == max) {
			count(python_truncated);
			*truncated = true;
			break;
		}
		if (shim) {
			frames[n++] = MLF_PYTHON_NO_FRAME;
			run = n;
			continue;
		}
		uint64_t ref = pycode_ref(code); // 0: an offset would mean nothing, and might look like NO_FRAME
		frames[n++] = ref << MLF_PYTHON_FRAME_CODE_SHIFT | (is_entry(frame) ? MLF_PYTHON_FRAME_ENTRY : 0) |
			      (ref ? instruction_of(frame, code) : 0);
	}
	for (unsigned i = 0; i < n; i++)
		*hash = fold(*hash, frames[i]);
	if (n && !*hash)
		*hash = 1;
	return n;
}

// ---- self-test -----------------------------------------------------------------------------------

// Do our walk and the interpreter name the same frames? With the GIL, between two instructions of Python.
static bool walk_agrees(uintptr_t thread)
{
	uintptr_t (*get_back)(uintptr_t) = (uintptr_t(*)(uintptr_t))found.get_back;
	uintptr_t (*get_code)(uintptr_t) = (uintptr_t(*)(uintptr_t))found.get_code;
	int (*get_last)(uintptr_t) = (int (*)(uintptr_t))found.get_last;
	void (*decref)(uintptr_t) = (void (*)(uintptr_t))found.decref;
	uintptr_t frame = innermost_frame(thread), object = ((uintptr_t(*)(void))found.get_frame)();
	bool borrowed = true, same = true;
	for (unsigned i = 0; same && frame && i < STEPS_MOST; i++, frame = word_at(frame, python.layout->frame_back)) {
		if (frame % 8 || is_shim(frame))
			continue;
		uintptr_t code = word_at(frame, python.layout->frame_code);
		if (pycode_is_code(code) && is_glue(code))
			continue;
		uintptr_t its = object ? get_code(object) : 0;
		same = its && code == its && pycode_is_code(code);
		if (same && get_last)
			same = (uint32_t)get_last(object) == instruction_of(frame, code);
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

void pyframes_self_test(void)
{
	uintptr_t thread = this_thread();
	if (python.tested || !thread || !innermost_frame(thread))
		return;
	if (!found.get_frame || !found.get_back || !found.get_code || !walk_agrees(thread))
		store_release(&python.state, MLF_PYTHON_SELF_TEST_FAILED);
	python.tested = true;
}

bool pyframes_with_gil(bool may_take_gil, void (*work)(void))
{
	if (python.state != MLF_PYTHON_FRAMES || !found.has_gil || !found.take_gil || !found.give_gil || !found.current || !found.decref)
		return false;
	uintptr_t thread = this_thread();
	if (!thread)
		return false; // not a thread of Python's: nothing is made into one
	// The first word is not enough: with sub-interpreters about, it is always yes.
	bool has = ((int (*)(void))found.has_gil)() && ((uintptr_t(*)(void))found.current)() == thread;
	if (!has && !may_take_gil)
		return false;
	uint8_t was_busy = sampler_self.busy;
	sampler_self.busy = SAMPLER_NOT_THE_PROGRAM; // objects are made for us
	int state = has ? 0 : ((int (*)(void))found.take_gil)();
	work();
	if (!has)
		((void (*)(int))found.give_gil)(state);
	sampler_self.busy = was_busy;
	return true;
}

// ---- storing -------------------------------------------------------------------------------------

uint32_t pyframes_store(const uint64_t *frames, unsigned n, uint64_t hash, bool truncated)
{
	uint32_t ref = index_find(MLF_KIND_PYTHON_STACK_INDEX, hash);
	if (ref)
		return ref;
	uint32_t bytes = (uint32_t)(sizeof(struct mlf_python_stack) + n * sizeof(uint64_t));
	struct mlf_python_stack *stack = recording_take(bytes, MLF_REF_BYTES);
	if (stack) {
		stack->record = (struct mlf_record){.bytes = bytes, .kind = MLF_RECORD_PYTHON_STACK, .version = 1};
		stack->key = hash;
		stack->frames = (uint16_t)n;
		stack->flags = truncated ? MLF_STACK_TRUNCATED : 0;
		for (unsigned i = 0; i < n; i++)
			stack->frame[i] = frames[i];
		ref = index_insert(MLF_KIND_PYTHON_STACK_INDEX, hash, recording_ref(stack));
	}
	if (!ref)
		count(python_full);
	return ref;
}
