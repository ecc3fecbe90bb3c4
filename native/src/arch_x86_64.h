// arch_x86_64.h -- what must be known of x86-64
//
// Layer 2. DWARF register numbers of the psABI, where the kernel leaves the registers of an
// interrupted function, and the thread pointer. Another architecture brings a file of the same
// names.
#ifndef MEMLEAK_ARCH_X86_64_H
#define MEMLEAK_ARCH_X86_64_H

#include "base.h"

#if !defined(__x86_64__)
#error "arch_x86_64.h: another architecture needs its own file of these names"
#endif

#define ARCH_REGISTERS 17U // 0..15 general, 16 the return address column
#define ARCH_BP 6U
#define ARCH_SP 7U
#define ARCH_RA 16U

// Call frame information can ask for these in a caller because callees preserve them.
#define ARCH_PRESERVED ((1U << 3) | (1U << ARCH_BP) | (0xFU << 12)) // rbx rbp r12..r15

// When a handler returns to the restorer, sp points at a struct ucontext; these are its registers.
#define ARCH_SIGNAL_BP 120
#define ARCH_SIGNAL_SP 160
#define ARCH_SIGNAL_PC 168
#define ARCH_SIGNAL_END 176

// Offset from that sp of register `number` of the interrupted function.
static inline unsigned arch_signal_register(unsigned number)
{
	static const uint8_t at[ARCH_REGISTERS] = {
	    144, 136, 152, 128, 112, 104, 120, 160, // rax rdx rcx rbx rsi rdi rbp rsp
	    40,  48,  56,  64,  72,  80,  88,  96,  // r8..r15
	    168,
	};
	return at[number];
}

// Between two looks at what another thread is about to write.
static inline void arch_relax(void) { __builtin_ia32_pause(); }

// The instructions before a return address that tell what was called; at least so many bytes before it must be readable.
#define ARCH_CALL_BYTES 6U
#define ARCH_STUB_BYTES 11U // of a stub, from its beginning

static inline uintptr_t arch_relative(uintptr_t next) // the last four bytes before `next` are an offset from there
{
	int32_t offset;
	__builtin_memcpy(&offset, (const uint8_t *)next - sizeof(offset), sizeof(offset));
	return next + (uintptr_t)(intptr_t)offset;
}

// call *slot(%rip): the slot; 0: another instruction.
static inline uintptr_t arch_called_slot(uintptr_t return_address)
{
	const uint8_t *code = (const uint8_t *)return_address;
	return code[-6] == 0xFF && code[-5] == 0x15 ? arch_relative(return_address) : 0;
}

// call target: where it leads; 0: another instruction.
static inline uintptr_t arch_called_function(uintptr_t return_address)
{
	return ((const uint8_t *)return_address)[-5] == 0xE8 ? arch_relative(return_address) : 0;
}

// [endbr64] [bnd] jmp *slot(%rip): the slot; 0: it begins otherwise.
static inline uintptr_t arch_stub_slot(uintptr_t stub)
{
	const uint8_t *code = (const uint8_t *)stub;
	unsigned at = code[0] == 0xF3 && code[1] == 0x0F && code[2] == 0x1E && code[3] == 0xFA ? 4 : 0;
	at += code[at] == 0xF2;
	return code[at] == 0xFF && code[at + 1] == 0x25 ? arch_relative(stub + at + 6) : 0;
}

static inline uintptr_t arch_thread_pointer(void)
{
	uintptr_t pointer;
	__asm__("mov %%fs:0, %0" : "=r"(pointer));
	return pointer;
}

#endif
