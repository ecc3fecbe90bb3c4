// python_witness.c -- at each sample, the Python frames as the interpreter's own headers say they are
//
// Linked into a core whose samples.c calls witness_sample() with the row of each sample (test_python_witness.py makes
// it), compiled once per CPython against that one's internal headers: offsets come from the compiler, lines from
// PyCode_Addr2Line(). Notes each pair (row, frames) once, with how often it was seen, in the file WITNESS_FILE, which
// is mapped, so that it is there however the program ends.
#define Py_BUILD_CORE 1
#include <Python.h>
#if PY_VERSION_HEX >= 0x030B0000
#include "internal/pycore_frame.h"
#else
#include "frameobject.h"
#endif

#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#define FILE_BYTES (1UL << 30) // sparse: pairs in the lower half, names in the upper
#define HALF_BYTES (FILE_BYTES / 2)
#define SLOTS (1UL << 21)
#define FRAMES_MOST 1000U

struct text { // followed by its characters, `unit` bytes each, up to a multiple of 8
	uint32_t length, unit;
};
struct pair {
	uint64_t count;
	uint32_t row, frames;
	struct frame { // innermost first
		uint32_t name; // offset in the upper half of two texts: file and name
		int32_t line;  // INT32_MIN: its instruction has none; less than 0: it has not begun, -(first line of its code)
	} frame[FRAMES_MOST];
};
struct report {
	uint64_t used, names_used, samples, wrong_thread;
};

static char *base;
static struct report *report;
static struct slot {
	uint64_t hash, at;
} *pair_slots, *name_slots;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t hash_of(uint64_t hash, const void *from, size_t bytes) // FNV-1a
{
	for (const unsigned char *c = from; bytes; bytes--)
		hash = (hash ^ *c++) * 0x100000001b3U;
	return hash ? hash : 1;
}

static struct slot *slot_of(struct slot *slots, uint64_t hash)
{
	uint64_t at = hash % SLOTS;
	while (slots[at].hash && slots[at].hash != hash)
		at = (at + 1) % SLOTS;
	return &slots[at];
}

static uint64_t keep(uint64_t *used, uint64_t limit, const void *from, size_t bytes)
{
	uint64_t at = *used;
	*used += (bytes + 7) & ~7UL;
	if (*used > limit)
		abort();
	memcpy(base + at, from, bytes);
	return at;
}

static size_t text_bytes(PyObject *text) { return (size_t)PyUnicode_GET_LENGTH(text) * PyUnicode_KIND(text); }

static uint64_t keep_text(PyObject *text)
{
	struct text head = {(uint32_t)PyUnicode_GET_LENGTH(text), (uint32_t)PyUnicode_KIND(text)};
	uint64_t at = keep(&report->names_used, FILE_BYTES, &head, sizeof(head));
	keep(&report->names_used, FILE_BYTES, PyUnicode_DATA(text), text_bytes(text));
	return at;
}

static uint32_t name_of(PyObject *file, PyObject *name)
{
	uint64_t hash = hash_of(0xcbf29ce484222325U, PyUnicode_DATA(file), text_bytes(file));
	hash = hash_of(hash * 31, PyUnicode_DATA(name), text_bytes(name));
	struct slot *slot = slot_of(name_slots, hash);
	if (!slot->hash) {
		slot->at = keep_text(file);
		keep_text(name);
		slot->hash = hash;
	}
	return (uint32_t)(slot->at - HALF_BYTES);
}

static void put_frame(struct pair *pair, PyCodeObject *code, int last_byte, int begun)
{
	if (pair->frames == FRAMES_MOST)
		abort();
	struct frame *frame = &pair->frame[pair->frames++];
	frame->line = begun ? PyCode_Addr2Line(code, last_byte) : -code->co_firstlineno;
	if (begun && frame->line < 0)
		frame->line = INT32_MIN;
#if PY_VERSION_HEX >= 0x030B0000
	frame->name = name_of(code->co_filename, code->co_qualname);
#else
	frame->name = name_of(code->co_filename, code->co_name);
#endif
}

// As sys._current_frames() goes about it, but that frames which have not begun are noted too.
static void put_frames(struct pair *pair, PyThreadState *thread)
{
#if PY_VERSION_HEX >= 0x030B0000
#if PY_VERSION_HEX >= 0x030D0000
	_PyInterpreterFrame *frame = thread->current_frame;
#else
	_PyInterpreterFrame *frame = thread->cframe ? thread->cframe->current_frame : NULL;
#endif
	for (; frame; frame = frame->previous) {
#if PY_VERSION_HEX >= 0x030C0000
		if (frame->owner == FRAME_OWNED_BY_CSTACK)
			continue;
#endif
#if PY_VERSION_HEX >= 0x030D0000
		if (!PyCode_Check(frame->f_executable))
			continue;
		PyCodeObject *code = _PyFrame_GetCode(frame);
#else
		PyCodeObject *code = frame->f_code;
#endif
		if (code->_co_firsttraceable >= Py_SIZE(code))
			continue; // it never begins: between __init__ and who makes the object
		int last = _PyInterpreterFrame_LASTI(frame) * (int)sizeof(_Py_CODEUNIT);
		put_frame(pair, code, last, !_PyFrame_IsIncomplete(frame));
	}
#else
	for (PyFrameObject *frame = thread->frame; frame; frame = frame->f_back) {
#if PY_VERSION_HEX >= 0x030A0000
		int last = frame->f_lasti * (int)sizeof(_Py_CODEUNIT);
#else
		int last = frame->f_lasti;
#endif
		put_frame(pair, frame->f_code, last, frame->f_lasti >= 0);
	}
#endif
}

__attribute__((visibility("hidden"))) void witness_sample(uint32_t row);
void witness_sample(uint32_t row)
{
	if (!report)
		return;
	pthread_mutex_lock(&mutex);
	static struct pair pair;
	pair = (struct pair){.row = row};
	PyThreadState *thread = PyGILState_GetThisThreadState();
	if (thread) {
		report->wrong_thread += thread->thread_id && thread->thread_id != PyThread_get_thread_ident();
		put_frames(&pair, thread);
	}
	size_t bytes = offsetof(struct pair, frame) + pair.frames * sizeof(pair.frame[0]);
	struct slot *slot = slot_of(pair_slots, hash_of(0xcbf29ce484222325U, &pair, bytes));
	if (!slot->hash) {
		slot->hash = hash_of(0xcbf29ce484222325U, &pair, bytes);
		slot->at = keep(&report->used, HALF_BYTES, &pair, bytes);
	}
	((struct pair *)(base + slot->at))->count++;
	report->samples++;
	pthread_mutex_unlock(&mutex);
}

static void *map(int fd, size_t bytes, int flags)
{
	void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
	return mapped == MAP_FAILED ? (abort(), NULL) : mapped;
}

static void forget(void) { report = NULL; } // a child has a recording of its own

static void __attribute__((constructor)) begin(void)
{
	const char *path = getenv("WITNESS_FILE");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
	if (fd < 0 || ftruncate(fd, FILE_BYTES))
		return;
	pair_slots = map(-1, SLOTS * sizeof(struct slot), MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	name_slots = map(-1, SLOTS * sizeof(struct slot), MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	base = map(fd, FILE_BYTES, MAP_SHARED);
	close(fd);
	((struct report *)base)->used = sizeof(struct report);
	((struct report *)base)->names_used = HALF_BYTES;
	report = (struct report *)base;
	pthread_atfork(NULL, NULL, forget);
}
