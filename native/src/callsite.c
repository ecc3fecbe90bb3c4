// callsite.c -- did a caller call this very function, and not another that jumped on to it?
//
// Context:   sampled.
// Invariant: nothing is read outside the readable segments of the object that the caller is part of.
// Why:       operator delete is a jump to free() in most builds: to free() both look alike, except at the place of the call.
//            A stub of the linker and a function of one jump are the same bytes; a reader, who has the file, tells them apart
//            by the section.
// Proof:     tests/native/test_callsite.c; tests/integration/test_mismatches.py
#include "callsite.h"

#include "arch_x86_64.h"
#include "modules.h"

static bool readable(const struct elf_image *image, uintptr_t at, size_t bytes) { return elf_image_readable(image, at, bytes); }

static bool holds(const struct elf_image *image, uintptr_t slot, uintptr_t function)
{
	return slot % sizeof(uintptr_t) == 0 && readable(image, slot, sizeof(uintptr_t)) &&
	       load_relaxed((const uintptr_t *)slot) == function;
}

bool callsite_calls(uintptr_t return_address, uintptr_t function, uint64_t *stub)
{
	*stub = 0;
	unsigned id = modules_find(return_address - 1);
	if (!id)
		return false;
	const struct elf_image *image = &modules_get(id)->image;
	if (!readable(image, return_address - ARCH_CALL_BYTES, ARCH_CALL_BYTES))
		return false;
	uintptr_t slot = arch_called_slot(return_address);
	if (slot && holds(image, slot, function))
		return true;
	uintptr_t target = arch_called_function(return_address);
	if (!target || !readable(image, target, ARCH_STUB_BYTES))
		return false;
	slot = arch_stub_slot(target);
	if (!slot || !holds(image, slot, function))
		return false;
	*stub = (target + module_frame_base[id]) | MLF_FRAME_EXACT;
	return true;
}
