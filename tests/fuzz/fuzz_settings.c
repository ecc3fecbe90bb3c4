// fuzz_settings.c -- settings of any words: in range or the default, and the program's environment as it was
//
// Input: lines, each a variable's number (one letter) and its value.
// fuzz: with settings sampler stats clock counter
#include "memleak_format.h"
#include "recording.h"
#include "sampler.h"
#include "settings.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char *const names[] = {
    "MEMLEAK_MODE", "MEMLEAK_MIN_SAMPLE_INTERVAL", "MEMLEAK_MAX_SAMPLE_INTERVAL", "MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL",
    "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL", "MEMLEAK_SAMPLE_BYTES", "MEMLEAK_ROOM", "MEMLEAK_SEED", "MEMLEAK_RUN_ID",
    "MEMLEAK_DIR", "XDG_RUNTIME_DIR", "MEMLEAK_NATIVE", "MEMLEAK_PYTHON", "_min_malloc_sample_interval",
    "_max_malloc_sample_interval", "MEMLEAK_DISABLE",
};

static void check_interval(uint64_t word)
{
	uint64_t min = (uint16_t)word, max = (uint16_t)(word >> 16);
	bool off = (uint32_t)word == SAMPLER_OFF;
	if (!off && (min < 1 || min > max || max > MLF_INTERVAL_MAX))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		unsetenv(names[i]);
	char *text = malloc(bytes + 1);
	if (!text)
		return 0;
	memcpy(text, data, bytes);
	text[bytes] = 0;
	settings_environment_is_new(bytes % 2);
	char *rest = text;
	for (char *line; (line = strsep(&rest, "\n"));)
		if (*line)
			setenv(names[(unsigned char)*line % ARRAY_LEN(names)], line + 1, 1);
	free(text);

	struct recording_options options = {0};
	settings_read_places(&options);
	settings_read_knobs(&options);
	check_interval(options.interval);
	check_interval(options.python_interval);
	if ((options.sample_bytes && options.sample_bytes < 4096) || options.sample_bytes > 1ULL << 40 ||
	    options.cap_bytes < 1U << 20 || options.cap_bytes > 1U << 30 || options.start_bytes > options.cap_bytes ||
	    strlen(options.directory) > 255 || strlen(options.runtime_directory) > 255)
		abort();
	bool python = settings_flag("MEMLEAK_PYTHON", true);
	if (!settings_native(python) && !python)
		abort();
	settings_has("MEMLEAK_DISABLE");
	return 0;
}
