// test_callsite.c -- which call stands before a return address
#include "harness.h"

#include "arch_x86_64.h"
#include "boot.h"
#include "callsite.h"
#include "modules.h"

#include <stdlib.h>
#include <sys/mman.h>

// ---- the instructions --------------------------------------------------------------------------------------

static void test_instructions(void)
{
	uint8_t code[32] = {0};
	uintptr_t at = (uintptr_t)code, next = at + 16;
	CHECK(arch_called_slot(next) == 0 && arch_called_function(next) == 0);
	memcpy(code + 10, "\xFF\x15\x10\x00\x00\x00", 6); // call *16(%rip)
	CHECK_EQUAL(arch_called_slot(next), next + 16);
	CHECK_EQUAL(arch_called_function(next), 0);
	memcpy(code + 10, "\x90\xE8\xF0\xFF\xFF\xFF", 6); // call -16
	CHECK_EQUAL(arch_called_slot(next), 0);
	CHECK_EQUAL(arch_called_function(next), next - 16);
	memcpy(code + 10, "\x90\x90\x90\x90\xFF\xD0", 6); // call *%rax
	CHECK(arch_called_slot(next) == 0 && arch_called_function(next) == 0);

	static const struct {
		const char *bytes;
		unsigned length;
	} stubs[] = {
	    {"\xFF\x25\x08\x00\x00\x00", 6}, {"\xF2\xFF\x25\x08\x00\x00\x00", 7}, {"\xF3\x0F\x1E\xFA\xFF\x25\x08\x00\x00\x00", 10},
	    {"\xF3\x0F\x1E\xFA\xF2\xFF\x25\x08\x00\x00\x00", 11},
	};
	for (unsigned i = 0; i < ARRAY_LEN(stubs); i++) {
		memset(code, 0, sizeof(code));
		memcpy(code, stubs[i].bytes, stubs[i].length);
		CHECK_EQUAL(arch_stub_slot(at), at + stubs[i].length + 8);
	}
	memcpy(code, "\xF3\x0F\x1E\xFA\xE9\x08\x00\x00\x00", 9); // endbr64; jmp: a function that jumps on
	CHECK_EQUAL(arch_stub_slot(at), 0);
	memcpy(code, "\x55\x48\x89\xE5", 4);
	CHECK_EQUAL(arch_stub_slot(at), 0);
}

// ---- this program's own calls ------------------------------------------------------------------------------

static uintptr_t returned_to;

NOINLINE void note_caller(void *p);
void note_caller(void *p)
{
	returned_to = (uintptr_t)__builtin_return_address(0);
	__asm__ volatile("" : : "r"(p));
}

static void test_what_is_not_a_call_of_it(void)
{
	uint64_t stub = 1;
	note_caller(NULL); // through no slot
	CHECK(returned_to && !callsite_calls(returned_to, (uintptr_t)&note_caller, &stub));
	CHECK_EQUAL(stub, 0);
	CHECK(!callsite_calls((uintptr_t)&test_instructions, (uintptr_t)&free, &stub));
	CHECK(!callsite_calls(16, (uintptr_t)&free, &stub)); // in no object
	CHECK(!callsite_calls(0, (uintptr_t)&free, &stub));
	// At the very first byte of an object: what is before it is not read.
	unsigned id = modules_find((uintptr_t)&test_instructions);
	CHECK(id && !callsite_calls(modules_get(id)->image.low + 1, (uintptr_t)&free, &stub));
}

// A call that another library makes, found in its code: the C library calls free() through its slots in hundreds of places.
static void test_calls_of_the_c_library(void)
{
	unsigned id = modules_find((uintptr_t)&malloc), found = 0;
	CHECK(id != 0);
	const struct elf_image *image = &modules_get(id)->image;
	uintptr_t function = 0;
	for (uintptr_t at = image->text_low + 16; at + 16 < image->text_high && found < 20; at++) {
		uintptr_t target = arch_called_function(at), slot;
		uint64_t stub;
		if (!target || target < image->text_low || target + 16 >= image->text_high || !(slot = arch_stub_slot(target)) ||
		    !elf_image_readable(image, slot, 8) || slot % 8)
			continue;
		if (!function)
			function = *(uintptr_t *)slot; // whatever it is that is called so
		if (*(uintptr_t *)slot != function)
			continue;
		found++;
		CHECK(callsite_calls(at, function, &stub));
		CHECK_EQUAL(stub >> MLF_FRAME_MODULE_SHIFT, id);
		CHECK(stub & MLF_FRAME_EXACT);
		CHECK_EQUAL((stub & MLF_FRAME_VADDR_MASK) + image->bias, target);
		CHECK(!callsite_calls(at, function + 1, &stub));
		CHECK(!callsite_calls(at + 1, function, &stub) || arch_called_function(at + 1));
	}
	CHECK(found > 0);
}

int main(void)
{
	boot();
	test_instructions();
	test_what_is_not_a_call_of_it();
	test_calls_of_the_c_library();
	return harness_end();
}
