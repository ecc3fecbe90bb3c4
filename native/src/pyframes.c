// pyframes.c -- the Python half of a backtrace
//
// Context:   pyframes_walk() and pyframes_store() are sampled; attaching is cold.
// Invariant: only this thread's own frames are read: nobody else changes them, and this thread is inside C code. No
//            reference is taken and nothing of Python is called, but the two functions that return the thread's
//            state and do nothing else.
// Why:       the GIL may be held by another thread, or be about to be waited for: a library may allocate without it.
//            A thread's own state is found through its thread-local slot then.
// Proof:     tests/integration/test_python_stacks.py, test_python_frames.py
#include "pyframes.h"

#include "atomics.h"
#include "index.h"
#include "loader.h"
#include "pycode.h"
#include "pyruntime.h"
#include "recording.h"
#include "stats.h"
#include "sys.h"

#include <time.h>

#define STEPS_MOST 4096U // frames and shims looked at: a chain that is longer is no chain
#define LINKS_AHEAD 16U // read in one go, before anything is asked of them
#define READERS_WAIT_NS 100000
#define READERS_WAITS 2000 // a walk takes a microsecond, but its thread may be preempted

// The interpreter that was found. Its layout is set before the state says so.
static enum mlf_python state;
static bool forbidden;

void pyframes_allow(bool allowed) { store_relaxed(&forbidden, !allowed); }
bool pyframes_is_allowed(void) { return !load_relaxed(&forbidden); }

// ---- attaching -----------------------------------------------------------------------------------

static uint32_t attaching; // pid of the process one of whose threads looks for an interpreter; 0 = none

enum mlf_python pyframes_state(void) { return load_relaxed(&forbidden) ? MLF_PYTHON_OFF : load_acquire(&state); }

enum mlf_python pyframes_attach(void)
{
	// A holder that did not survive a fork is recognised by its pid. Pairs with the release below.
	uint32_t self, holder;
	if (pyframes_state() != MLF_PYTHON_NONE)
		return pyframes_state();
	if (loader_lock_may_be_lost())
		return MLF_PYTHON_NONE;
	self = (uint32_t)sys_getpid();
	holder = load_relaxed(&attaching);
	if (holder == self || !cas_acq_rel(&attaching, &holder, self))
		return MLF_PYTHON_NONE; // another thread is at it
	if (load_relaxed(&state) == MLF_PYTHON_NONE) {
		enum mlf_python found = pyruntime_find();
		if (pyruntime.layout)
			pycode_attach(pyruntime.layout, pyruntime.code_type);
		store_release(&state, found); // last: sampled code looks at nothing before
	}
	store_release(&attaching, 0);
	return pyframes_state();
}

void pyframes_fail_self_test(void) { store_release(&state, MLF_PYTHON_SELF_TEST_FAILED); }

uint32_t pyframes_version(void) { return pyruntime.version; }
size_t pyframes_arena_bytes(void) { return pyruntime.layout ? (size_t)pyruntime.layout->arena_kib << 10 : 0; }

// ---- walking -------------------------------------------------------------------------------------

static uintptr_t word_at(uintptr_t object, unsigned offset) { return *(const uintptr_t *)(object + offset); }
// Other threads write these.
static uintptr_t runtime_word(unsigned offset) { return load_relaxed((const uintptr_t *)(pyruntime.at + offset)); }

// Before 3.12 a thread's slot goes on naming its state in the main interpreter while it runs another; which of them it runs
// is known only while it has the GIL.
static bool in_main_interpreter(uintptr_t thread, bool has_gil)
{
	const struct pylayout *l = pyruntime.layout;
	uintptr_t main = runtime_word(l->runtime_main);
	if (l->minor < 12 && !has_gil && runtime_word(l->runtime_interpreters) != main)
		return false;
	return word_at(thread, l->thread_interp) == main;
}

// A thread without the GIL reads what the interpreter may be about to free. It is counted before it looks whether the end
// has come, and who brings the end says so before it looks at the count: one of the two sees the other.
static uint32_t readers;
static uintptr_t ender; // 0, or the state of the thread that is about to end the interpreter

struct reader {
	uintptr_t thread; // its state in the main interpreter; 0: it has none, or is (perhaps) in another one
	bool counted, elsewhere;
};

// First the interpreter says that it ends, then it frees the states of all threads but this one; the slots of those that
// are in code without the GIL go on naming them.
static bool may_be_freed(uintptr_t thread)
{
	uintptr_t finalizing = load_seq_cst((const uintptr_t *)(pyruntime.at + pyruntime.layout->runtime_finalizing));
	return finalizing && finalizing != thread;
}

static struct reader begin_reading(void)
{
	// The slot first. In a thread that has never been at the interpreter the other look would be the first at libpython's
	// thread-local storage, which the loader then allocates if libpython was loaded late.
	uintptr_t thread = pyruntime.by_thread(), holder = thread ? pyruntime.current() : 0;
	if (pyruntime.layout->minor >= 12 && holder)
		thread = holder;
	struct reader reader = {thread, thread && thread != holder, false};
	if (!thread)
		return reader; // not a thread of Python's
	if (reader.counted) {
		add_seq_cst(&readers, 1);
		uintptr_t ending = load_seq_cst(&ender);
		if (ending && ending != thread)
			reader.thread = 0;
	}
	if (reader.thread && unlikely(may_be_freed(thread)))
		reader.thread = 0;
	if (reader.thread && unlikely(!in_main_interpreter(thread, !reader.counted))) {
		reader.thread = 0;
		reader.elsewhere = true;
	}
	return reader;
}

// False: what was read may be anything.
static bool end_reading(const struct reader *reader)
{
	if (!reader->counted)
		return true;
	bool good = !may_be_freed(reader->thread);
	sub_release(&readers, 1); // pairs with pyframes_await_readers()
	return good;
}

bool pyframes_is_ending(void) { return runtime_word(pyruntime.layout->runtime_finalizing) != 0; }

void pyframes_await_readers(void)
{
	static const struct timespec pause = {.tv_nsec = READERS_WAIT_NS};
	if (!load_seq_cst(&ender) && !pyframes_is_ending())
		return;
	// Bounded: a thread may have been stopped, or cancelled, in there.
	for (int i = 0; i < READERS_WAITS && load_seq_cst(&readers); i++)
		sys_call(SYS_nanosleep, &pause, 0, 0);
}

void pyframes_note_end(uintptr_t thread)
{
	store_seq_cst(&ender, thread);
	pyframes_await_readers();
}

void pyframes_open(void) { store_relaxed(&readers, 0); }

static uintptr_t innermost_frame(uintptr_t thread)
{
	const struct pylayout *l = pyruntime.layout;
	if (l->thread_cframe == PYLAYOUT_NONE)
		return word_at(thread, l->thread_frame);
	uintptr_t cframe = word_at(thread, l->thread_cframe);
	return cframe ? word_at(cframe, l->cframe_frame) : 0; // none yet at a thread's birth
}

// Offset in bytes of the instruction that the frame executes. A frame that was just made points before its code, or
// is at what only prepares the code proper: cells, the generator object.
static uint32_t instruction_of(uintptr_t frame, uintptr_t code)
{
	const struct pylayout *l = pyruntime.layout;
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
	const struct pylayout *l = pyruntime.layout;
	return l->minor >= 12 && *(const uint8_t *)(frame + l->frame_owner) == PYLAYOUT_OWNER_C_STACK;
}

// Code of the interpreter's own that never begins, in a frame between __init__ and who makes the object (3.12 and later).
static bool is_glue(uintptr_t code)
{
	const struct pylayout *l = pyruntime.layout;
	return l->minor >= 12 && *(const uint32_t *)(code + l->code_first_traceable) * 2ULL >= pycode_instruction_bytes(code);
}

static bool is_entry(uintptr_t frame)
{
	const struct pylayout *l = pyruntime.layout;
	return l->minor < 11 || (l->frame_is_entry != PYLAYOUT_NONE && *(const uint8_t *)(frame + l->frame_is_entry));
}

// What a link of the chain is; of a frame also its code.
enum link { LINK_FRAME, LINK_SHIM, LINK_NOTHING };

static enum link link_at(uintptr_t frame, uintptr_t *code)
{
	if (is_shim(frame))
		return LINK_SHIM;
	*code = word_at(frame, pyruntime.layout->frame_code);
	return pycode_is_code(*code) && !is_glue(*code) ? LINK_FRAME : LINK_NOTHING; // 3.13 puts None there for what has no code
}

static bool is_readable(uintptr_t frame, unsigned *steps) { return frame % 8 == 0 && (*steps)++ < STEPS_MOST; }

// What is asked of some links lies in four lines each, and waiting for one after the other is most of what a walk takes in a
// service. Returns the link behind them.
static uintptr_t prefetch_links(uintptr_t frame)
{
	const struct pylayout *l = pyruntime.layout;
	for (unsigned i = 0; i < LINKS_AHEAD && frame && frame % 8 == 0; i++) {
		pycode_prefetch(word_at(frame, l->frame_code));
		frame = word_at(frame, l->frame_back);
	}
	return frame % 8 == 0 ? frame : 0;
}

static uint64_t fold(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * MLF_CHECK_1;
	return hash ^ hash >> 31;
}

unsigned pyframes_walk(uint64_t *frames, unsigned max, uint64_t *hash, bool *truncated, struct pylabel *label)
{
	*hash = 0;
	*label = (struct pylabel){0, 0};
	*truncated = false;
	if (pyframes_state() != MLF_PYTHON_FRAMES) // acquire: pairs with pyframes_attach()
		return 0;
	struct reader reader = begin_reading();
	if (unlikely(reader.elsewhere))
		count(python_subinterpreter);
	uintptr_t frame = reader.thread ? innermost_frame(reader.thread) : 0;
	if (reader.thread)
		*label = pylabel_of(reader.thread);
	unsigned n = 0, steps = 0, run = 0; // run: where the frames of this run of the interpreter begin
	uintptr_t ahead = frame;
	for (; frame; frame = word_at(frame, pyruntime.layout->frame_back)) {
		if (unlikely(!is_readable(frame, &steps))) {
			count(python_unreadable);
			*truncated = true;
			break;
		}
		if (steps % LINKS_AHEAD == 1)
			ahead = prefetch_links(ahead);
		uintptr_t code;
		enum link link = link_at(frame, &code);
		if (link == LINK_SHIM && n > run) {
			frames[n - 1] |= MLF_PYTHON_FRAME_ENTRY;
			run = n;
			continue;
		}
		if (link == LINK_NOTHING)
			continue;
		if (n == max) {
			count(python_truncated);
			*truncated = true;
			break;
		}
		if (link == LINK_SHIM) {
			frames[n++] = MLF_PYTHON_NO_FRAME;
			run = n;
			continue;
		}
		uint64_t ref = pycode_ref(code); // 0: an offset would mean nothing, and might look like NO_FRAME
		frames[n++] = ref << MLF_PYTHON_FRAME_CODE_SHIFT | (is_entry(frame) ? MLF_PYTHON_FRAME_ENTRY : 0) |
			      (ref ? instruction_of(frame, code) : 0);
	}
	if (unlikely(!end_reading(&reader))) {
		*truncated = false;
		*label = (struct pylabel){0, 0};
		n = 0;
	}
	for (unsigned i = 0; i < n; i++)
		*hash = fold(*hash, frames[i]);
	if (n && !*hash)
		*hash = 1;
	return n;
}

uint32_t pyframes_label(void)
{
	if (pyframes_state() != MLF_PYTHON_FRAMES || pylabel_state() != MLF_LABELS_FOLLOWED) // acquire: as above
		return 0;
	struct reader reader = begin_reading();
	uint32_t label = reader.thread ? pylabel_of(reader.thread).number : 0;
	return end_reading(&reader) ? label : 0;
}

// From 3.11 on the interpreter's functions pass over frames that have not begun, but for those of generators.
static bool shows_before_its_begin(uintptr_t frame)
{
	const struct pylayout *l = pyruntime.layout;
	return l->minor < 11 || *(const uint8_t *)(frame + l->frame_owner) == PYLAYOUT_OWNER_GENERATOR;
}

uintptr_t pyframes_thread(void)
{
	struct reader reader = begin_reading();
	return end_reading(&reader) ? reader.thread : 0;
}

uintptr_t pyframes_innermost(uintptr_t thread) { return innermost_frame(thread); }

bool pyframes_next(uintptr_t *frame, struct pyframes_place *out)
{
	for (unsigned steps = 0; *frame && is_readable(*frame, &steps);) {
		uintptr_t at = *frame;
		enum link link = link_at(at, &out->code);
		*frame = word_at(at, pyruntime.layout->frame_back);
		if (link != LINK_FRAME)
			continue;
		out->offset = instruction_of(at, out->code);
		out->shown = out->offset != MLF_PYTHON_FRAME_NOT_BEGUN || shows_before_its_begin(at);
		return true;
	}
	return false;
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
