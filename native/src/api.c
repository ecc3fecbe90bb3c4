// api.c -- memleak.h: check arguments, turn state into plain C values
//
// Context:   cold.
// Invariant: none of these changes what is recorded.
// Why:       the Python side and C programs see the core only through here.
// Proof:     tests/integration/test_native.py
#include "../include/memleak.h"

#include "modules.h"
#include "recording.h"
#include "startup.h"
#include "tracer.h"

EXPORT int memleak_abi_version(void) { return MEMLEAK_ABI_VERSION; }

EXPORT const char *memleak_build_id(void)
{
	static char text[2 * ELF_BUILD_ID_MAX + 1];
	startup_modules();
	unsigned id = modules_find((uintptr_t)&memleak_build_id);
	const struct elf_image *image = id ? &modules_get(id)->image : NULL;
	for (uint32_t i = 0; image && i < image->build_id_bytes; i++) {
		text[2 * i] = "0123456789abcdef"[image->build_id[i] >> 4];
		text[2 * i + 1] = "0123456789abcdef"[image->build_id[i] & 15];
	}
	return text;
}

EXPORT int memleak_is_recording(void) { return tracer_is_recording(); }

EXPORT const char *memleak_recording_path(void) { return tracer_is_recording() ? recording.path : ""; }

EXPORT void memleak_poll(void) { tracer_poll(); }
