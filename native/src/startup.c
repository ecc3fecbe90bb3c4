// startup.c -- the preload door opens: environment, modules, recording
//
// Context:   cold: the library's constructor and destructor.
// Invariant: without MEMLEAK=1 nothing is opened, read or written, and every hook passes through. Bad
//            settings give one line on stderr and the default; they never stop the program.
// Why:       strings of the environment are copied: the program may overwrite that memory
//            (setproctitle) before a forked child needs them.
// Proof:     tests/integration/test_environment.py, test_run.py
#include "startup.h"

#include "allocator.h"
#include "chores.h"
#include "hook_new.h"
#include "modules.h"
#include "recording.h"
#include "sys.h"
#include "text.h"
#include "tracer.h"
#include "unwind.h"

#include <stdlib.h>
#include <sys/auxv.h>

static char directory[256], runtime_directory[256];

// ---- telling -----------------------------------------------------------------------------------

static void say(const char *a, const char *b, const char *c)
{
	char line[512];
	struct text t = text_in(line, sizeof(line) - 1);
	text_add(&t, "memleak: ");
	text_add(&t, a);
	text_add(&t, b);
	text_add(&t, c);
	line[t.length++] = '\n';
	sys_write(2, line, t.length);
}

// ---- environment -------------------------------------------------------------------------------

static bool parse_size(const char *s, uint64_t *out)
{
	if (!text_parse_decimal(&s, out))
		return false;
	unsigned shift = *s == 'K' || *s == 'k' ? 10 : *s == 'M' || *s == 'm' ? 20 : *s == 'G' || *s == 'g' ? 30 : 0;
	s += shift != 0;
	s += shift != 0 && *s == 'i';
	s += *s == 'B';
	if (*s || *out > UINT64_MAX >> shift)
		return false;
	*out <<= shift;
	return true;
}

// A numeric setting; the default and one line if it is malformed.
static uint64_t number(const char *name, uint64_t low, uint64_t high, uint64_t otherwise)
{
	const char *value = getenv(name);
	uint64_t v;
	if (!value || !*value)
		return otherwise;
	if (parse_size(value, &v) && v >= low && v <= high)
		return v;
	say(name, " is out of range or not a number, using the default: ", value);
	return otherwise;
}

static uint64_t interval_from_environment(void)
{
	uint64_t low = 16, high = 256;
	const char *mode = getenv("MEMLEAK_MODE");
	if (mode && text_equal(mode, "off"))
		low = high = MLF_INTERVAL_OFF;
	else if (mode && text_equal(mode, "full"))
		low = high = 1;
	else if (mode && *mode && !text_equal(mode, "normal"))
		say("MEMLEAK_MODE is not off, normal or full, using normal: ", mode, "");
	// OceanBase's names first, so that ours win.
	uint64_t min = number("_min_malloc_sample_interval", 1, MLF_INTERVAL_MAX, low);
	uint64_t max = number("_max_malloc_sample_interval", 1, MLF_INTERVAL_MAX, high);
	min = number("MEMLEAK_MIN_SAMPLE_INTERVAL", 1, MLF_INTERVAL_MAX, min);
	max = number("MEMLEAK_MAX_SAMPLE_INTERVAL", 1, MLF_INTERVAL_MAX, max);
	if (min > max) {
		say("MEMLEAK_MIN_SAMPLE_INTERVAL is greater than MEMLEAK_MAX_SAMPLE_INTERVAL, using the defaults", "", "");
		min = low, max = high;
	}
	return max << 16 | min;
}

static uint64_t sample_bytes_from_environment(void)
{
	uint64_t bytes = number("MEMLEAK_SAMPLE_BYTES", 0, 1ULL << 40, SAMPLER_DEFAULT_BYTES);
	if (bytes == 0 || bytes >= 4096)
		return bytes;
	say("MEMLEAK_SAMPLE_BYTES is neither 0 nor at least 4096, using the default", "", "");
	return SAMPLER_DEFAULT_BYTES;
}

static uint64_t hex_setting(const char *name)
{
	const char *value = getenv(name);
	uint64_t v = 0;
	if (value && (!text_parse_hex(&value, 16, &v) || *value))
		return 0;
	return v;
}

static void copy_setting(char *to, size_t room, const char *name)
{
	const char *value = getenv(name);
	struct text t = text_in(to, room);
	text_add(&t, value ? value : "");
	if (t.full) {
		say(name, " is too long, not used", "");
		to[0] = 0;
	}
}

static bool setting_is(const char *name, const char *value)
{
	const char *found = getenv(name);
	return found && text_equal(found, value);
}

// "MEMLEAK=1" becomes "MEMLEAK=0" where it stands: programs exec'd from here are not followed. In place,
// because setenv() would move the program's environment.
static void do_not_follow_exec(void)
{
	char *value = getenv("MEMLEAK");
	if (value)
		value[0] = '0';
}

// ---- the door ------------------------------------------------------------------------------------

static bool asked_for(void)
{
	return setting_is("MEMLEAK", "1") && !setting_is("MEMLEAK_DISABLE", "1") && !getauxval(AT_SECURE);
}

static bool other_tool_in_charge(const char **name)
{
	static const char *const signs[][2] = {
	    {"__asan_init", "AddressSanitizer"}, {"__tsan_init", "ThreadSanitizer"}, {"__msan_init", "MemorySanitizer"},
	    {"__lsan_init", "LeakSanitizer"},
	};
	for (size_t i = 0; i < ARRAY_LEN(signs); i++)
		if (elf_global_symbol(signs[i][0])) {
			*name = signs[i][1];
			return true;
		}
	return false;
}

void startup_modules(void)
{
	static bool done;
	if (done)
		return;
	done = true;
	allocator_resolve();
	modules_init(setting_is("MEMLEAK_MODULE_SNAPSHOT", "1"));
	unwind_init();
	unsigned id = modules_find((uintptr_t)real.malloc);
	if (id && !elf_image_symbol(&modules_get(id)->image, "gnu_get_libc_version", NULL))
		allocator_set_owner(modules_get(id)->image.low, modules_get(id)->image.high);
}

// Does the loader bind this name to us for the whole program?
static bool is_ours(const char *name)
{
	uintptr_t first = elf_global_symbol(name);
	return first && modules_find(first) == modules_find((uintptr_t)&startup_modules);
}

static void __attribute__((constructor)) open_door(void)
{
	allocator_resolve(); // now, while there is one thread
	if (!asked_for())
		return;
	startup_modules();
	if (!is_ours("mmap"))
		return; // loaded by an import, not preloaded
	bool follow_exec = setting_is("MEMLEAK_FOLLOW", "1"), follow_fork = !setting_is("MEMLEAK_FOLLOW", "0");
	if (!follow_exec)
		do_not_follow_exec();
	const char *tool;
	if (other_tool_in_charge(&tool)) {
		say("not tracing: ", tool, " is in this process and must see every allocation itself");
		return;
	}
	if (!is_ours("malloc")) {
		say("not tracing: the program has an allocator of its own linked in", "", "");
		return;
	}
	chores_allow_thread(!setting_is("MEMLEAK_THREAD", "0"));
	copy_setting(directory, sizeof(directory), "MEMLEAK_DIR");
	copy_setting(runtime_directory, sizeof(runtime_directory), "XDG_RUNTIME_DIR");
	uint64_t interval = interval_from_environment();
	uint64_t cap = number("MEMLEAK_ROOM", 1U << 20, 1U << 30, RECORDING_CAP_DEFAULT);
	struct recording_options options = {
	    .interval = interval,
	    .sample_bytes = sample_bytes_from_environment(),
	    .run_id = hex_setting("MEMLEAK_RUN_ID"),
	    .seed = number("MEMLEAK_SEED", 0, UINT64_MAX, 0),
	    .cap_bytes = (uint32_t)cap,
	    // Full mode fills its tables quickly, and a single-threaded program can never back more.
	    .start_bytes = (uint32_t)interval == SAMPLER_FULL || cap < RECORDING_START_BYTES ? (uint32_t)cap : RECORDING_START_BYTES,
	    .mmap_always_bytes = TRACER_MMAP_ALWAYS,
	    .directory = directory,
	    .runtime_directory = runtime_directory,
	};
	unsigned self = modules_find((uintptr_t)&open_door);
	if (self) {
		options.build_id = modules_get(self)->image.build_id;
		options.build_id_bytes = modules_get(self)->image.build_id_bytes;
	}
	const char *why = NULL;
	if (!tracer_start(&options, follow_fork, &why)) {
		say("not tracing: ", why ? why : "could not start", "");
		return;
	}
	hook_new_patch();
	if (recording.is_private)
		say("recording in private memory, readable by nobody else: the directory for it ", why ? why : "failed",
		    "; set MEMLEAK_DIR to a 0700 directory of yours on tmpfs");
	else if (recording.asked_why)
		say("MEMLEAK_DIR ", recording.asked_why, ", recording in the usual place");
}

static void __attribute__((destructor)) close_door(void) { tracer_stop(MLF_STATE_EXITED); }
