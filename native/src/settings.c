// settings.c -- what the environment asks for
//
// Context:   cold, inside the library's constructor or memleak_start().
// Invariant: a malformed value is told of, once for a program and those it executes, and replaced by the default.
// Why:       strings are copied: the program may overwrite that memory (setproctitle) before a forked child
//            needs them.
// Proof:     tests/integration/test_environment.py
#include "settings.h"

#include "recording.h"
#include "sampler.h"
#include "sys.h"
#include "text.h"

#include <stdlib.h>

static char focus[MLF_FOCUS_BYTES];
static char directory[256], runtime_directory[256], keep_directory[256];

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

// ---- one setting ---------------------------------------------------------------------------------

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static const char *past_blanks(const char *s)
{
	while (is_blank(*s))
		s++;
	return s;
}

// What a variable says, NULL if nothing: unset, empty or blank.
static const char *setting(const char *name)
{
	const char *value = getenv(name);
	value = value ? past_blanks(value) : "";
	return *value ? value : NULL;
}

static bool says(const char *value, const char *word)
{
	while (*word && *value == *word)
		value++, word++;
	return !*word && !*past_blanks(value);
}

static bool may_write; // the environment is as the kernel laid it out, not what putenv() was given

void settings_environment_is_new(bool is_new) { may_write = is_new; }

// In place, because setenv() would move the program's environment.
static void make_empty(const char *name)
{
	char *value = getenv(name);
	if (value && may_write)
		value[0] = 0;
}

// One line. Programs executed from here do not say it again: the setting is then empty.
void settings_ignore(const char *name, const char *why)
{
	const char *value = getenv(name);
	settings_say(name, why, value ? value : "");
	make_empty(name);
}

bool settings_flag(const char *name, bool otherwise)
{
	const char *value = setting(name);
	if (!value)
		return otherwise;
	if (says(value, "1") || says(value, "0"))
		return says(value, "1");
	settings_ignore(name, otherwise ? " is not 0 or 1, using 1: " : " is not 0 or 1, using 0: ");
	return otherwise;
}

bool settings_native(bool python)
{
	bool native = settings_flag("MEMLEAK_NATIVE", true);
	if (native || python)
		return native;
	settings_ignore("MEMLEAK_NATIVE", " and MEMLEAK_PYTHON are both 0, using 1 for the first: ");
	return true;
}

// ---- numbers -------------------------------------------------------------------------------------

// The same rules as src/memleak/config.py: blanks around it do not matter, a size may end in K, M or G, "i" and "B".
static bool parse_count(const char *s, uint64_t *out) { return text_parse_decimal(&s, out) && !*past_blanks(s); }

static bool parse_size(const char *s, uint64_t *out)
{
	if (!text_parse_decimal(&s, out))
		return false;
	s = past_blanks(s);
	char unit = *s | 0x20;
	unsigned shift = unit == 'k' ? 10 : unit == 'm' ? 20 : unit == 'g' ? 30 : 0;
	s += shift != 0;
	s += shift != 0 && (*s | 0x20) == 'i';
	s += (*s | 0x20) == 'b';
	if (*past_blanks(s) || *out > UINT64_MAX >> shift)
		return false;
	*out <<= shift;
	return true;
}

// The default and one line if it is malformed or out of range.
static uint64_t number(const char *name, bool (*parse)(const char *, uint64_t *), uint64_t low, uint64_t high,
		       uint64_t otherwise)
{
	const char *value = setting(name);
	uint64_t v;
	if (!value)
		return otherwise;
	if (parse(value, &v) && v >= low && v <= high)
		return v;
	settings_ignore(name, " is out of range or not a number, using the default: ");
	return otherwise;
}

static uint64_t interval(const char *name, uint64_t otherwise)
{
	return number(name, parse_count, 1, MLF_INTERVAL_MAX, otherwise);
}

// Both or, if they are out of order, neither.
static uint64_t pair(const char *least, uint64_t min, const char *greatest, uint64_t max, uint64_t otherwise)
{
	if (min <= max)
		return max << 16 | min;
	char words[128];
	struct text t = text_in(words, sizeof(words));
	text_add(&t, " is greater than ");
	text_add(&t, greatest);
	text_add(&t, ", using the defaults: ");
	settings_ignore(least, words);
	make_empty(greatest);
	return otherwise;
}

// ---- knobs ---------------------------------------------------------------------------------------

static uint64_t python_interval_from_environment(uint64_t native)
{
	// Off and full mean Python's objects too.
	uint64_t otherwise = (uint32_t)native == SAMPLER_OFF || (uint32_t)native == SAMPLER_FULL ? native : SAMPLER_PYTHON;
	uint64_t min = interval("MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL", (uint16_t)otherwise);
	uint64_t max = interval("MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL", (uint16_t)(otherwise >> 16));
	return pair("MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL", min, "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL", max, otherwise);
}

static uint64_t interval_from_environment(void)
{
	uint64_t low = 16, high = 256;
	const char *mode = setting("MEMLEAK_MODE");
	if (mode && says(mode, "off"))
		low = high = MLF_INTERVAL_OFF;
	else if (mode && says(mode, "full"))
		low = high = 1;
	else if (mode && !says(mode, "normal"))
		settings_ignore("MEMLEAK_MODE", " is not off, normal or full, using normal: ");
	// OceanBase's names first, so that ours win.
	uint64_t min = interval("_min_malloc_sample_interval", low);
	uint64_t max = interval("_max_malloc_sample_interval", high);
	min = interval("MEMLEAK_MIN_SAMPLE_INTERVAL", min);
	max = interval("MEMLEAK_MAX_SAMPLE_INTERVAL", max);
	return pair("MEMLEAK_MIN_SAMPLE_INTERVAL", min, "MEMLEAK_MAX_SAMPLE_INTERVAL", max, high << 16 | low);
}

static uint64_t sample_bytes_from_environment(void)
{
	uint64_t bytes = number("MEMLEAK_SAMPLE_BYTES", parse_size, 0, 1ULL << 40, SAMPLER_DEFAULT_BYTES);
	if (bytes == 0 || bytes >= 4096)
		return bytes;
	settings_ignore("MEMLEAK_SAMPLE_BYTES", " is neither 0 nor at least 4096, using the default: ");
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

// Of a program that has raised rights, its caller does not say where files are made and removed.
static void copy_setting(char *to, size_t room, const char *name)
{
	const char *value = secure_getenv(name);
	struct text t = text_in(to, room);
	text_add(&t, value ? value : "");
	if (t.full) {
		settings_ignore(name, " is too long, not used: ");
		to[0] = 0;
	}
}

const char *settings_focus(void)
{
	const char *value = setting("MEMLEAK_FOCUS");
	struct text t = text_in(focus, sizeof(focus));
	if (value && (says(value, "none") || says(value, "off")))
		value = NULL;
	text_add(&t, value ? value : "");
	while (t.length && is_blank(focus[t.length - 1]))
		focus[--t.length] = 0;
	if (t.full) {
		settings_ignore("MEMLEAK_FOCUS", " is longer than 255 bytes, not used: ");
		focus[0] = 0;
	}
	return focus;
}

void settings_read_places(struct recording_options *out)
{
	copy_setting(directory, sizeof(directory), "MEMLEAK_DIR");
	copy_setting(runtime_directory, sizeof(runtime_directory), "XDG_RUNTIME_DIR");
	copy_setting(keep_directory, sizeof(keep_directory), "MEMLEAK_KEEP_DIR");
	uint64_t cap = number("MEMLEAK_ROOM", parse_size, 1U << 20, 1U << 30, RECORDING_CAP_DEFAULT);
	out->run_id = hex_setting("MEMLEAK_RUN_ID");
	out->seed = number("MEMLEAK_SEED", parse_count, 0, UINT64_MAX, 0);
	out->cap_bytes = (uint32_t)cap;
	out->start_bytes = cap < RECORDING_START_BYTES ? (uint32_t)cap : RECORDING_START_BYTES;
	out->directory = directory;
	out->runtime_directory = runtime_directory;
	out->keep_directory = keep_directory;
}

// A share from 0 to 1 with up to six digits behind the point, in millionths.
static bool parse_share(const char *s, uint64_t *out)
{
	uint64_t whole = 0, part = 0, unit = MLF_BUDGET_PPM_MAX;
	if (*s != '.' && (!text_parse_decimal(&s, &whole) || whole > 1))
		return false;
	if (*s == '.') {
		if (s++, *s < '0' || *s > '9')
			return false;
		for (; *s >= '0' && *s <= '9'; s++) {
			if (unit == 1 && *s != '0')
				return false;
			unit = unit > 1 ? unit / 10 : 1;
			part += unit * (uint64_t)(*s - '0');
		}
	}
	*out = whole * MLF_BUDGET_PPM_MAX + part;
	return !*past_blanks(s);
}

uint32_t settings_budget(void)
{
	return (uint32_t)number("MEMLEAK_BUDGET", parse_share, 0, MLF_BUDGET_PPM_MAX, MLF_BUDGET_PPM);
}

void settings_read_knobs(struct recording_options *out)
{
	out->interval = interval_from_environment();
	out->python_interval = python_interval_from_environment(out->interval);
	out->sample_bytes = sample_bytes_from_environment();
	out->max_frames = MAX_FRAMES;
}
