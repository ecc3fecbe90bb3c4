// pylayout.h -- where CPython keeps what a backtrace of Python needs, by version
//
// Layer 4. Constant tables; one core serves all versions. tests/test_pylayout.py holds them against each
// interpreter's own headers.
#ifndef MEMLEAK_PYLAYOUT_H
#define MEMLEAK_PYLAYOUT_H

#include "base.h"
#include "memleak_format.h"

// Byte offsets. UINT16_MAX: this version has no such field.
#define PYLAYOUT_NONE UINT16_MAX
struct pylayout {
	uint16_t minor; // 3.minor
	// PyThreadState
	uint16_t thread_interp;
	uint16_t thread_context; // the context variables in force: a contextvars.Context, NULL before the first
	uint16_t thread_frame;  // the innermost frame, or …
	uint16_t thread_cframe; // … what holds it (3.11, 3.12), …
	uint16_t cframe_frame;  // … there
	// PyFrameObject (3.9, 3.10), _PyInterpreterFrame (3.11 and later)
	uint16_t frame_back, frame_code;
	uint16_t frame_last;    // int index (3.9 in bytes, 3.10 in units of 2), pointer to the instruction (3.11 and later)
	uint16_t frame_owner, frame_is_entry; // char, bool
	// PyCodeObject
	uint16_t code_file, code_name, code_first_line, code_lines, code_instructions, code_first_traceable;
	uint16_t line_table;    // enum mlf_line_table
	// str: data of ASCII ones and of others in compact form
	uint16_t text_ascii, text_compact;
	uint16_t arena_kib;     // of pymalloc
	// _PyRuntime
	uint16_t runtime_finalizing;   // the state of the thread that ends the interpreter
	uint16_t runtime_interpreters; // the newest interpreter
	uint16_t runtime_main;         // the main one
	// What an interpreter can be asked for without its help, see pylayout_fits()
	uint16_t thread_id, code_bytes, frame_bytes;
};

#define PYLAYOUT_OWNER_GENERATOR 1 // frame_owner of a generator's, coroutine's frame (3.11 and later)
#define PYLAYOUT_OWNER_C_STACK 3 // frame_owner of the shim that marks an entry of the interpreter (3.12 and later)

// The same in all of them: object headers, str's length and state, bytes.
#define PYLAYOUT_OBJECT_TYPE 8
#define PYLAYOUT_VAR_SIZE 16
#define PYLAYOUT_TYPE_BASIC_SIZE 32
#define PYLAYOUT_TYPE_DEALLOC 48
#define PYLAYOUT_TEXT_LENGTH 16
#define PYLAYOUT_TEXT_STATE 32
#define PYLAYOUT_BYTES_DATA 32
// Context, its map, and the nodes of that; a collision node is none of the two that are read.
#define PYLAYOUT_CONTEXT_MAP 24
#define PYLAYOUT_MAP_ROOT 16
#define PYLAYOUT_BITMAP_BITS 24
#define PYLAYOUT_BITMAP_PAIRS 32
#define PYLAYOUT_ARRAY_NODES 16

// The layout of a version, by PY_VERSION_HEX; NULL if it is not known. `runtime`: address of _PyRuntime, where
// 3.13 and later publish theirs; a difference makes a version unknown.
const struct pylayout *pylayout_of(uint32_t version_hex, const void *runtime, enum mlf_python *state);

// What shows an interpreter whose structures were changed (a vendor's patches) before one of its frames is read.
struct pylayout_signs {
	uint64_t thread_interp, thread_id; // where functions that only read these members found them
	uint64_t code_bytes, frame_bytes;  // tp_basicsize of code objects and frame objects
};
bool pylayout_fits(const struct pylayout *layout, const struct pylayout_signs *signs);

#endif
