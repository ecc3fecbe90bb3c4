// pylayout.c -- where CPython keeps what a backtrace of Python needs, by version
//
// Context:   cold.
// Invariant: offsets do not change within a minor version: extension modules compiled for 3.x.0 rely on it.
// Why:       the core is not linked to libpython, so that one binary serves all versions and programs without any.
// Proof:     tests/test_pylayout.py
#include "pylayout.h"

#define NONE PYLAYOUT_NONE

static const struct pylayout layouts[] = {
    {.minor = 9,
     .thread_interp = 16, .thread_context = 240, .thread_frame = 24, .thread_cframe = NONE, .cframe_frame = NONE,
     .frame_back = 24, .frame_code = 32, .frame_last = 104, .frame_owner = NONE, .frame_is_entry = NONE,
     .code_file = 104, .code_name = 112, .code_first_line = 40, .code_lines = 120, .code_instructions = 48, .code_first_traceable = NONE,
     .line_table = MLF_LINE_TABLE_LNOTAB, .text_ascii = 48, .text_compact = 72, .arena_kib = 256, .runtime_finalizing = 16,
     .runtime_interpreters = 32, .runtime_main = 40, .thread_id = 256, .code_bytes = 176, .frame_bytes = 368},
    {.minor = 10,
     .thread_interp = 16, .thread_context = 240, .thread_frame = 24, .thread_cframe = NONE, .cframe_frame = NONE,
     .frame_back = 24, .frame_code = 32, .frame_last = 96, .frame_owner = NONE, .frame_is_entry = NONE,
     .code_file = 104, .code_name = 112, .code_first_line = 40, .code_lines = 120, .code_instructions = 48, .code_first_traceable = NONE,
     .line_table = MLF_LINE_TABLE_LINES, .text_ascii = 48, .text_compact = 72, .arena_kib = 1024, .runtime_finalizing = 16,
     .runtime_interpreters = 32, .runtime_main = 40, .thread_id = 256, .code_bytes = 176, .frame_bytes = 360},
    {.minor = 11,
     .thread_interp = 16, .thread_context = 224, .thread_frame = NONE, .thread_cframe = 56, .cframe_frame = 8,
     .frame_back = 48, .frame_code = 32, .frame_last = 56, .frame_owner = 69, .frame_is_entry = 68,
     .code_file = 112, .code_name = 128, .code_first_line = 72, .code_lines = 136, .code_instructions = 184, .code_first_traceable = 168,
     .line_table = MLF_LINE_TABLE_LOCATIONS, .text_ascii = 48, .text_compact = 72, .arena_kib = 1024, .runtime_finalizing = 24,
     .runtime_interpreters = 40, .runtime_main = 48, .thread_id = 240, .code_bytes = 184, .frame_bytes = 120},
    {.minor = 12,
     .thread_interp = 16, .thread_context = 208, .thread_frame = NONE, .thread_cframe = 56, .cframe_frame = 0,
     .frame_back = 8, .frame_code = 0, .frame_last = 56, .frame_owner = 70, .frame_is_entry = NONE,
     .code_file = 112, .code_name = 128, .code_first_line = 68, .code_lines = 136, .code_instructions = 192, .code_first_traceable = 176,
     .line_table = MLF_LINE_TABLE_LOCATIONS, .text_ascii = 40, .text_compact = 56, .arena_kib = 1024, .runtime_finalizing = 24,
     .runtime_interpreters = 40, .runtime_main = 48, .thread_id = 224, .code_bytes = 192, .frame_bytes = 120},
    {.minor = 13,
     .thread_interp = 16, .thread_context = 208, .thread_frame = 72, .thread_cframe = NONE, .cframe_frame = NONE,
     .frame_back = 8, .frame_code = 0, .frame_last = 56, .frame_owner = 70, .frame_is_entry = NONE,
     .code_file = 112, .code_name = 128, .code_first_line = 68, .code_lines = 136, .code_instructions = 200, .code_first_traceable = 184,
     .line_table = MLF_LINE_TABLE_LOCATIONS, .text_ascii = 40, .text_compact = 56, .arena_kib = 1024, .runtime_finalizing = 608,
     .runtime_interpreters = 632, .runtime_main = 640, .thread_id = 224, .code_bytes = 200, .frame_bytes = 136},
};

// The head of _Py_DebugOffsets of 3.13, in words.
enum { COOKIE, VERSION, FREE_THREADED, RUNTIME, THREAD = 19, FRAME = 28, CODE = 34 };
static const char cookie[8] = {'x', 'd', 'e', 'b', 'u', 'g', 'p', 'y'};

static bool as_published(const struct pylayout *l, const uint64_t *words)
{
	const uint64_t *runtime = words + RUNTIME, *thread = words + THREAD, *frame = words + FRAME, *code = words + CODE;
	return runtime[1] == l->runtime_finalizing && runtime[2] == l->runtime_interpreters &&
	       thread[3] == l->thread_interp && thread[4] == l->thread_frame &&
	       frame[1] == l->frame_back && frame[2] == l->frame_code && frame[3] == l->frame_last &&
	       frame[5] == l->frame_owner && code[1] == l->code_file && code[3] == l->code_name &&
	       code[4] == l->code_lines && code[5] == l->code_first_line && code[9] == l->code_instructions;
}

const struct pylayout *pylayout_of(uint32_t version_hex, const void *runtime, enum mlf_python *state)
{
	*state = MLF_PYTHON_UNKNOWN_VERSION;
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		const struct pylayout *layout = &layouts[i];
		if (version_hex >> 16 != (3U << 8 | layout->minor))
			continue;
		if (layout->minor >= 13) {
			const uint64_t *words = runtime;
			if (!words || __builtin_memcmp(words, cookie, sizeof(cookie)) != 0)
				return NULL;
			if (words[FREE_THREADED]) {
				*state = MLF_PYTHON_FREE_THREADED;
				return NULL;
			}
			if (!as_published(layout, words))
				return NULL;
		}
		*state = MLF_PYTHON_FRAMES;
		return layout;
	}
	return NULL;
}

bool pylayout_fits(const struct pylayout *l, const struct pylayout_signs *signs)
{
	if (l->minor >= 13) // it has published more than these
		return true;
	return signs->thread_interp == l->thread_interp && signs->thread_id == l->thread_id &&
	       signs->code_bytes == l->code_bytes && signs->frame_bytes == l->frame_bytes;
}
