// api.c -- memleak.h: check arguments, turn state into plain C values
//
// Context:   cold.
// Invariant: arguments out of range change nothing.
// Why:       the Python side and C programs see the core only through here.
// Proof:     tests/integration/test_native.py, test_import_door.py
#include "../include/memleak.h"

#include "allocator.h"
#include "boot.h"
#include "chores.h"
#include "elfimage.h"
#include "modules.h"
#include "recording.h"
#include "startup.h"
#include "tracer.h"

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

EXPORT int memleak_start(unsigned min_sample_interval, unsigned max_sample_interval, unsigned long long sample_bytes,
			 unsigned max_frames)
{
	struct startup_knobs knobs = {(uint64_t)max_sample_interval << 16 | min_sample_interval, sample_bytes, max_frames};
	if (max_sample_interval > MLF_INTERVAL_MAX || !sampler_interval_valid(knobs.interval) ||
	    (sample_bytes && sample_bytes < 4096) || !max_frames || max_frames > MAX_FRAMES) {
		last_why = "intervals must be 1 <= min <= max <= 10000, sample_bytes 0 or at least 4096, max_frames 1 to 64";
		return -1;
	}
	const char *why;
	enum startup_outcome outcome = startup_begin(&knobs, &why);
	if (outcome != STARTUP_WAS_RUNNING)
		last_why = why;
	return outcome == STARTUP_STARTED ? 0 : outcome == STARTUP_WAS_RUNNING ? 1 : -1;
}

EXPORT int memleak_stop(void) { return startup_end(); }

EXPORT int memleak_configure(unsigned min_sample_interval, unsigned max_sample_interval, unsigned long long sample_bytes)
{
	if (min_sample_interval > MLF_INTERVAL_MAX || max_sample_interval > MLF_INTERVAL_MAX)
		return -1;
	return tracer_configure((uint64_t)max_sample_interval << 16 | min_sample_interval, sample_bytes) ? 0 : -1;
}

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

EXPORT void memleak_poll(void) { chores_do(true); }

// As <malloc.h> of glibc 2.33 declares it; found by name, so that older ones load us.
struct in_use {
	size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};

EXPORT long long memleak_malloc_in_use(void)
{
	boot();
	uintptr_t function = elf_global_symbol_locked("mallinfo2");
	if (!function || modules_find(function) != modules_find((uintptr_t)real.malloc))
		return -1;
	struct in_use now = ((struct in_use(*)(void))function)();
	return (long long)(now.uordblks + now.hblkhd);
}
