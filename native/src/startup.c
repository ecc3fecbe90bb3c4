// startup.c -- the two doors
//
// Context:   cold: the library's constructor and destructor, memleak_start() and memleak_stop().
// Invariant: without MEMLEAK=1 or a call of memleak_start() nothing is opened, read or written, and every hook
//            passes through. Whatever stops tracing never stops the program.
// Why:       both doors end in open_recording(): what differs is who asked, and where the knobs come from.
// Proof:     tests/integration/test_environment.py, test_run.py, test_import_door.py
#include "startup.h"

#include "allocator.h"
#include "boot.h"
#include "chores.h"
#include "focus.h"
#include "hook_events.h"
#include "hook_malloc.h"
#include "hook_new.h"
#include "hook_pool.h"
#include "loader.h"
#include "modules.h"
#include "objects.h"
#include "pyframes.h"
#include "recording.h"
#include "settings.h"
#include "slots.h"
#include "sys.h"
#include "text.h"
#include "tracer.h"
#include "tracer_child.h"
#include "tracer_gate.h"
#include "tracer_knobs.h"
#include "tracer_start.h"
#include "turn.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/auxv.h>

// ---- what every door needs -----------------------------------------------------------------------

static bool other_tool_in_charge(const char **name)
{
	static const char *const signs[][2] = {
	    {"__asan_init", "AddressSanitizer"}, {"__tsan_init", "ThreadSanitizer"}, {"__msan_init", "MemorySanitizer"},
	    {"__lsan_init", "LeakSanitizer"},
	};
	for (size_t i = 0; i < ARRAY_LEN(signs); i++)
		if (objects_symbol(signs[i][0])) {
			*name = signs[i][1];
			return true;
		}
	return false;
}

// Why nothing can be traced here; NULL: it can.
static const char *obstacle(bool preloaded)
{
	static char words[128];
	const char *tool;
	if (other_tool_in_charge(&tool)) {
		struct text t = text_in(words, sizeof(words));
		text_add(&t, tool);
		text_add(&t, " is in this process and must see every allocation itself");
		return words;
	}
	if (preloaded && !boot_is_ours("malloc"))
		return "another malloc comes before ours: linked into the program, or preloaded before us (preload us first)";
	return NULL;
}

static void before_fork(void)
{
	loader_before_fork(modules_program_has_threads());
	chores_leave_alone(); // Python 3.12 and later warn of other threads
	turn_before_fork(&tracer_turn);
	objects_before_fork();
}

// Nothing is hooked by that. Not at the first start: a process that forks meanwhile would have half of it.
static void register_hooks(void)
{
	hook_malloc_register();
	hook_new_register();
	hook_pool_register();
	hook_events_register();
	pthread_atfork(before_fork, objects_after_fork, loader_after_fork);
}

// From options with knobs to a process that is traced. *why may say something though it is.
static bool open_recording(struct recording_options *options, bool preloaded, bool follow_fork, const char **why)
{
	options->mmap_always_bytes = TRACER_MMAP_ALWAYS;
	options->budget_ppm = settings_budget();
	options->door = preloaded ? MLF_DOOR_PRELOAD : MLF_DOOR_IMPORT;
	// Full mode fills its tables quickly, and a single-threaded program can never back more.
	if ((uint32_t)options->interval == SAMPLER_FULL)
		options->start_bytes = options->cap_bytes;
	unsigned self = modules_find((uintptr_t)&open_recording);
	if (self) {
		options->build_id = modules_get(self)->image.build_id;
		options->build_id_bytes = modules_get(self)->image.build_id_bytes;
	}
	if (!tracer_start(options, follow_fork, why))
		return false;
	chores_begin((struct chores_rules){.thread_allowed = settings_flag("MEMLEAK_THREAD", true), .preloaded = preloaded});
	if (sys_threads() > 1) {
		modules_note_thread();
		chores_thread_created();
	}
	return true;
}

static const char *focus_from_environment(void)
{
	const char *text = settings_focus();
	if (focus_is_valid(text))
		return text;
	settings_ignore("MEMLEAK_FOCUS", " is not module=NAME, label=NAME=VALUE or mod=NAME, not used: ");
	return "";
}

// ---- the preload door ----------------------------------------------------------------------------

static bool asked_for(void)
{
	return settings_is("MEMLEAK", "1") && !settings_has("MEMLEAK_DISABLE") && !getauxval(AT_SECURE);
}

// "MEMLEAK=1" becomes "MEMLEAK=0" where it stands: programs exec'd from here are not followed. In place,
// because setenv() would move the program's environment.
static void do_not_follow_exec(void)
{
	char *value = getenv("MEMLEAK");
	if (value)
		value[0] = '0';
}

static void __attribute__((constructor)) open_door(void)
{
	// Now, while there is one thread, or the one that loads us.
	allocator_resolve();
	register_hooks();
	if (!asked_for())
		return;
	boot();
	if (!boot_is_preloaded())
		return;
	settings_environment_is_new(true);
	bool follow_exec = settings_flag("MEMLEAK_FOLLOW", false), follow_fork = !settings_is("MEMLEAK_FOLLOW", "0");
	if (!follow_exec)
		do_not_follow_exec();
	const char *why = obstacle(true);
	struct recording_options options = {0};
	if (!why) {
		settings_read_places(&options);
		settings_read_knobs(&options);
		options.focus = focus_from_environment();
		bool python = settings_flag("MEMLEAK_PYTHON", true);
		pyframes_allow(python);
		options.native_off = !settings_native(python);
		turn_take(&tracer_turn);
		if (!open_recording(&options, true, follow_fork, &why) && !why)
			why = "could not start";
		else if (tracer_is_recording())
			why = NULL;
		turn_leave(&tracer_turn);
	}
	if (!why && recording.keep_why) {
		char words[128];
		struct text t = text_in(words, sizeof(words));
		text_add(&t, " ");
		text_add(&t, recording.keep_why);
		text_add(&t, ", no copies are kept there: ");
		settings_ignore("MEMLEAK_KEEP_DIR", words);
	}
	settings_environment_is_new(false);
	if (why)
		settings_say("not tracing: ", why, "");
	else if (recording.is_private)
		settings_say("recording in private memory, readable by nobody else: the directory for it ", recording.private_why,
			     "; set MEMLEAK_DIR to a 0700 directory of yours on tmpfs");
	else if (recording.asked_why)
		settings_say("MEMLEAK_DIR ", recording.asked_why, ", recording in the usual place");
}

static void __attribute__((destructor)) close_door(void) { tracer_stop(MLF_STATE_EXITED); }

// ---- the import door -----------------------------------------------------------------------------

static enum startup_outcome begin(const struct startup_knobs *knobs, bool child_opened, const char **why)
{
	if (tracer_is_recording()) {
		if (!child_opened)
			return STARTUP_WAS_RUNNING;
		loader_trust_lock(); // as below
		chores_do(false);
		tracer_configure(knobs->interval, knobs->python_interval, knobs->sample_bytes);
		return STARTUP_STARTED;
	}
	loader_trust_lock(); // asked to trace, we must see what is loaded
	boot();
	bool preloaded = boot_is_preloaded();
	if (tracer_state() == TRACER_FORKED)
		tracer_stop(MLF_STATE_STOPPED); // it was not to have one; now it is asked for
	*why = settings_has("MEMLEAK_DISABLE") ? "MEMLEAK_DISABLE is set" : obstacle(preloaded);
	pyframes_allow(knobs->python);
	if (!*why && !knobs->native && pyframes_attach() != MLF_PYTHON_FRAMES)
		*why = "native allocations are not to be sampled, and this interpreter's own cannot be";
	if (*why)
		return STARTUP_REFUSED;
	struct recording_options options = {
	    .interval = knobs->interval, .python_interval = knobs->python_interval,
	    .sample_bytes = knobs->sample_bytes, .max_frames = knobs->max_frames, .native_off = !knobs->native};
	settings_read_places(&options);
	options.focus = focus_from_environment();
	return open_recording(&options, preloaded, true, why) ? STARTUP_STARTED : STARTUP_REFUSED;
}

enum startup_outcome startup_begin(const struct startup_knobs *knobs, const char **why)
{
	static char words[256];
	*why = NULL;
	bool child_opened = tracer_await_child();
	turn_take(&tracer_turn);
	enum startup_outcome outcome = begin(knobs, child_opened, why);
	struct text t = text_in(words, sizeof(words));
	if (outcome == STARTUP_STARTED && recording.is_private) {
		text_add(&t, "recording in private memory, readable by this process only: the directory for it ");
		text_add(&t, recording.private_why);
	} else if (outcome == STARTUP_STARTED && recording.asked_why) {
		text_add(&t, "MEMLEAK_DIR ");
		text_add(&t, recording.asked_why);
		text_add(&t, ", recording in the usual place");
	} else if (outcome == STARTUP_REFUSED) {
		text_add(&t, *why ? *why : "could not start");
	}
	if (outcome == STARTUP_STARTED && recording.keep_why) {
		text_add(&t, t.length ? "; MEMLEAK_KEEP_DIR " : "MEMLEAK_KEEP_DIR ");
		text_add(&t, recording.keep_why);
		text_add(&t, ", no copies are kept there");
	}
	*why = words;
	turn_leave(&tracer_turn);
	return outcome;
}

bool startup_end(void)
{
	turn_take(&tracer_turn);
	bool was_recording = tracer_is_recording();
	tracer_stop(MLF_STATE_STOPPED);
	turn_leave(&tracer_turn);
	return was_recording;
}
