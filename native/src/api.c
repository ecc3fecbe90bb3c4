// api.c -- memleak.h: check arguments, turn state into plain C values
//
// Context:   cold.
// Invariant: arguments out of range change nothing.
// Why:       the Python side and C programs see the core only through here.
// Proof:     tests/integration/test_native.py, test_import_door.py
#define MEMLEAK_LINKED
#include "../include/memleak.h"

#include "boot.h"
#include "chores.h"
#include "elfimage.h"
#include "gauges.h"
#include "heaps.h"
#include "labels.h"
#include "modules.h"
#include "outcome.h"
#include "pyframes.h"
#include "pylabel.h"
#include "recording.h"
#include "rows.h"
#include "startup.h"
#include "stats.h"
#include "text.h"
#include "tracer_child.h"
#include "tracer_gate.h"
#include "tracer_knobs.h"
#include "tracer_start.h"
#include "tracer_upkeep.h"

EXPORT int memleak_abi_version(void) { return MEMLEAK_ABI_VERSION; }

EXPORT const char *memleak_build_id(void)
{
	static char text[2 * ELF_BUILD_ID_MAX + 1];
	boot();
	unsigned id = modules_find((uintptr_t)&memleak_build_id);
	const struct elf_image *image = id ? &modules_get(id)->image : NULL;
	for (uint32_t i = 0; image && i < image->build_id_bytes; i++) {
		text[2 * i] = "0123456789abcdef"[image->build_id[i] >> 4];
		text[2 * i + 1] = "0123456789abcdef"[image->build_id[i] & 15];
	}
	return text;
}

static const char *last_why = "";

// 0 if it is not a legal pair.
static uint64_t pair(unsigned least, unsigned greatest)
{
	uint64_t interval = (uint64_t)greatest << 16 | least;
	return least <= MLF_INTERVAL_MAX && greatest <= MLF_INTERVAL_MAX && sampler_interval_valid(interval) ? interval : 0;
}

EXPORT int memleak_start(unsigned min_sample_interval, unsigned max_sample_interval, unsigned python_min_sample_interval,
			 unsigned python_max_sample_interval, unsigned long long sample_bytes, unsigned max_frames, int python,
			 int native)
{
	struct startup_knobs knobs = {.interval = pair(min_sample_interval, max_sample_interval),
				      .python_interval = pair(python_min_sample_interval, python_max_sample_interval),
				      .sample_bytes = sample_bytes,
				      .max_frames = max_frames,
				      .python = python != 0,
				      .native = native != 0};
	if (!knobs.interval || !knobs.python_interval || (sample_bytes && sample_bytes < 4096) || !max_frames || max_frames > MAX_FRAMES) {
		last_why = "intervals must be 1 <= min <= max <= 10000, sample_bytes 0 or at least 4096, max_frames 1 to 64";
		return -1;
	}
	if (!python && !native) {
		last_why = "python and native must not both be 0: nothing would be recorded";
		return -1;
	}
	const char *why;
	enum startup_outcome outcome = startup_begin(&knobs, &why);
	if (outcome != STARTUP_WAS_RUNNING)
		last_why = why;
	return outcome == STARTUP_STARTED ? 0 : outcome == STARTUP_WAS_RUNNING ? 1 : -1;
}

EXPORT int memleak_stop(void) { return startup_end(); }

EXPORT int memleak_configure(unsigned min_sample_interval, unsigned max_sample_interval, unsigned python_min_sample_interval,
			     unsigned python_max_sample_interval, unsigned long long sample_bytes)
{
	uint64_t interval = pair(min_sample_interval, max_sample_interval);
	uint64_t python_interval = pair(python_min_sample_interval, python_max_sample_interval);
	return interval && python_interval && tracer_configure(interval, python_interval, sample_bytes) ? 0 : -1;
}

EXPORT int memleak_set_budget(unsigned budget_ppm) { return tracer_set_budget(budget_ppm) ? 0 : -1; }

EXPORT int memleak_set_focus(const char *text) { return text && tracer_set_focus(text) ? 0 : -1; }

EXPORT int memleak_state(void) { return (int)tracer_state(); }

EXPORT const char *memleak_why(void) { return last_why; }

EXPORT int memleak_is_preloaded(void) { return boot_is_preloaded(); }

EXPORT int memleak_is_recording(void) { return tracer_is_recording(); }

static bool has_recording(void) { return tracer_state() == TRACER_RECORDING || tracer_state() == TRACER_STOPPED; }

EXPORT const char *memleak_recording_path(void) { return has_recording() ? recording.path : ""; }

EXPORT const void *memleak_recording_memory(unsigned long long *bytes)
{
	*bytes = 0;
	if (!has_recording() || !recording.base)
		return NULL;
	*bytes = load_acquire(&recording.header->room_backed); // pairs with recording_grow()
	return recording.base;
}

EXPORT void memleak_poll(void)
{
	tracer_await_child();
	chores_do(true);
}

EXPORT int memleak_set_aside(int aside)
{
	int before = sampler_self.busy == SAMPLER_NOT_THE_PROGRAM;
	sampler_self.busy = aside ? SAMPLER_NOT_THE_PROGRAM : 0;
	return before;
}

EXPORT unsigned memleak_row_at(unsigned long long address) { return tracer_row_at((const void *)(uintptr_t)address); }

EXPORT unsigned long long memleak_held(void) { return tracer_held().bytes; }

EXPORT unsigned long long memleak_held_peak(void) { return tracer_held().peak_bytes; }

EXPORT void memleak_reset_peak(void) { tracer_reset_peak(); }

EXPORT unsigned memleak_label_number(const char *text) { return labels_number(text, text_length(text)); }

EXPORT unsigned memleak_label_set(unsigned number)
{
	uint16_t before = sampler_self.label;
	sampler_self.label = (uint16_t)(number <= MLF_LABEL_OTHER ? number : 0);
	return before;
}

static void count_call(const void *number) { labels_count_call(*(const unsigned *)number); }

EXPORT void memleak_label_left(unsigned number) { tracer_do(count_call, &number); }

EXPORT const unsigned *memleak_label_notes(void) { return outcome_open(); }

struct ended {
	unsigned entry, began;
	const char *line;
};

static void settle(const void *about)
{
	const struct ended *ended = about;
	outcome_settle(ended->entry, ended->began, ended->line);
}

static void miss(const void *unused)
{
	(void)unused;
	count(outcome_missed);
}

EXPORT unsigned memleak_label_outcome(unsigned entry, unsigned began, unsigned number, const char *outcome)
{
	char line[MLF_LABEL_BYTES];
	struct text text = text_in(line, sizeof(line));
	text_add(&text, "outcome=");
	text_add(&text, outcome);
	uint32_t becomes = text.full ? 0 : labels_replaced(number, "outcome=ok", line);
	struct ended ended = {entry, began, line};
	if (becomes) {
		tracer_do(settle, &ended);
	} else if (labels_has(number, "outcome=ok") == LABELS_YES) { // no room for the other text: it did not end so
		tracer_do(miss, NULL);
		return number;
	}
	number = becomes ? becomes : number;
	memleak_label_left(number);
	return number;
}

EXPORT int memleak_label_follow(const void *variable, long long hash, const void *type, unsigned number_offset, unsigned expected)
{
	uintptr_t thread = pyframes_attach() == MLF_PYTHON_FRAMES ? pyframes_thread() : 0;
	if (!thread || number_offset > UINT16_MAX)
		return -2;
	uint64_t whole = (uint64_t)hash;
	uint32_t folded = (uint32_t)whole ^ (uint32_t)(whole >> 32);
	struct pylabel_variable at = {(uintptr_t)variable, (uintptr_t)type, folded == UINT32_MAX ? folded - 1 : folded,
				      (uint16_t)number_offset};
	enum pylabel_outcome outcome = pylabel_learn(thread, &at, expected);
	tracer_note_python();
	return outcome == PYLABEL_DONE ? 1 : outcome == PYLABEL_MORE ? 0 : -1;
}

EXPORT long long memleak_malloc_in_use(void)
{
	struct ledger_heap now;
	boot();
	return heaps_ask(&now) ? (long long)(now.used_bytes + now.mapped_bytes) : -1;
}

EXPORT unsigned memleak_gauge(const char *name)
{
	uint32_t number = gauges_number(name, text_length(name));
	if (number)
		tracer_gauge_was_set(number); // its name is to be seen, and perhaps a value from before
	return number;
}

EXPORT void memleak_gauge_set(unsigned number, long long value)
{
	if (gauges_keep(number, value))
		tracer_gauge_was_set(number);
}

EXPORT void memleak_gauge_add(unsigned number, long long more)
{
	if (gauges_add(number, more))
		tracer_gauge_was_set(number);
}

EXPORT int memleak_gauge_value(unsigned number, long long *value)
{
	int64_t found;
	if (!gauges_value(number, &found))
		return 0;
	*value = found;
	return 1;
}
