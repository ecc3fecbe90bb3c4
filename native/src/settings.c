// settings.c -- what the environment asks for
//
// Context:   cold, inside the library's constructor or memleak_start().
// Invariant: a malformed value is told of and replaced by the default.
// Why:       strings are copied: the program may overwrite that memory (setproctitle) before a forked child
//            needs them.
// Proof:     tests/integration/test_environment.py
#include "settings.h"

#include "recording.h"
#include "sampler.h"
#include "sys.h"
#include "text.h"

#include <stdlib.h>

static char directory[256], runtime_directory[256];

void settings_say(const char *a, const char *b, const char *c)
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

bool settings_is(const char *name, const char *value)
{
	const char *found = getenv(name);
	return found && text_equal(found, value);
}

bool settings_has(const char *name)
{
	const char *found = getenv(name);
	return found && *found && !text_equal(found, "0");
}

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
	settings_say(name, " is out of range or not a number, using the default: ", value);
	return otherwise;
}

static uint64_t python_interval_from_environment(uint64_t native)
{
	// Off and full mean Python's objects too.
	uint64_t otherwise = (uint32_t)native == SAMPLER_OFF || (uint32_t)native == SAMPLER_FULL ? native : SAMPLER_PYTHON;
	uint64_t min = number("MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL", 1, MLF_INTERVAL_MAX, (uint16_t)otherwise);
	uint64_t max = number("MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL", 1, MLF_INTERVAL_MAX, (uint16_t)(otherwise >> 16));
	if (min <= max)
		return max << 16 | min;
	settings_say("MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL is greater than MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL, using the defaults", "", "");
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
		settings_say("MEMLEAK_MODE is not off, normal or full, using normal: ", mode, "");
	// OceanBase's names first, so that ours win.
	uint64_t min = number("_min_malloc_sample_interval", 1, MLF_INTERVAL_MAX, low);
	uint64_t max = number("_max_malloc_sample_interval", 1, MLF_INTERVAL_MAX, high);
	min = number("MEMLEAK_MIN_SAMPLE_INTERVAL", 1, MLF_INTERVAL_MAX, min);
	max = number("MEMLEAK_MAX_SAMPLE_INTERVAL", 1, MLF_INTERVAL_MAX, max);
	if (min > max) {
		settings_say("MEMLEAK_MIN_SAMPLE_INTERVAL is greater than MEMLEAK_MAX_SAMPLE_INTERVAL, using the defaults", "", "");
		min = low, max = high;
	}
	return max << 16 | min;
}

static uint64_t sample_bytes_from_environment(void)
{
	uint64_t bytes = number("MEMLEAK_SAMPLE_BYTES", 0, 1ULL << 40, SAMPLER_DEFAULT_BYTES);
	if (bytes == 0 || bytes >= 4096)
		return bytes;
	settings_say("MEMLEAK_SAMPLE_BYTES is neither 0 nor at least 4096, using the default", "", "");
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
		settings_say(name, " is too long, not used", "");
		to[0] = 0;
	}
}

void settings_read_places(struct recording_options *out)
{
	copy_setting(directory, sizeof(directory), "MEMLEAK_DIR");
	copy_setting(runtime_directory, sizeof(runtime_directory), "XDG_RUNTIME_DIR");
	uint64_t cap = number("MEMLEAK_ROOM", 1U << 20, 1U << 30, RECORDING_CAP_DEFAULT);
	out->run_id = hex_setting("MEMLEAK_RUN_ID");
	out->seed = number("MEMLEAK_SEED", 0, UINT64_MAX, 0);
	out->cap_bytes = (uint32_t)cap;
	out->start_bytes = cap < RECORDING_START_BYTES ? (uint32_t)cap : RECORDING_START_BYTES;
	out->directory = directory;
	out->runtime_directory = runtime_directory;
}

void settings_read_knobs(struct recording_options *out)
{
	out->interval = interval_from_environment();
	out->python_interval = python_interval_from_environment(out->interval);
	out->sample_bytes = sample_bytes_from_environment();
	out->max_frames = MAX_FRAMES;
}
