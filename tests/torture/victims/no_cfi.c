// no_cfi.c -- code without call frame information, and registers that hold what no unwinder may believe
//
// usage: no_cfi ROUNDS. allocate_with(bp, bytes) calls malloc with bp in the frame pointer; nothing describes its frame.
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

void *allocate_with(uintptr_t frame_pointer, size_t bytes);
void *allocate_elsewhere(uintptr_t stack_top, size_t bytes);

__asm__(".text\n.globl allocate_with\n.type allocate_with,@function\nallocate_with:\n"
	"	push %rbp\n	push %rbx\n	push %r12\n" // an odd number: the stack is aligned
	"	mov %rdi, %rbp\n	mov %rdi, %rbx\n	mov %rdi, %r12\n	mov %rsi, %rdi\n"
	"	call malloc@PLT\n"
	"	pop %r12\n	pop %rbx\n	pop %rbp\n	ret\n.size allocate_with, .-allocate_with\n"
	// The same on another stack, which nobody has told anything of.
	".globl allocate_elsewhere\n.type allocate_elsewhere,@function\nallocate_elsewhere:\n"
	"	push %rbp\n	mov %rsp, %rbp\n	mov %rdi, %rsp\n	mov %rsi, %rdi\n"
	"	call malloc@PLT\n"
	"	mov %rbp, %rsp\n	pop %rbp\n	ret\n.size allocate_elsewhere, .-allocate_elsewhere\n");

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1000;
	enum { STACK = 16384 };
	char *area = mmap(NULL, 3 * STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED || mprotect(area + STACK, STACK, PROT_READ | PROT_WRITE) != 0)
		return 2;
	uintptr_t top = (uintptr_t)area + 2 * STACK, here = (uintptr_t)__builtin_frame_address(0);
	const uintptr_t wild[] = {0, 1, 8, here, here + 1, here - 64, here + (1 << 20), top, top - 8, (uintptr_t)area,
				  (uintptr_t)&main, 0x7fffffffffffULL, 0x800000000000ULL, 0xffff800000000000ULL, UINTPTR_MAX};
	enum { WILD = sizeof(wild) / sizeof(wild[0]) };
	unsigned long good = 0;
	for (int round = 0; round < rounds; round++) {
		void *volatile block = allocate_with(wild[round % WILD], (size_t)(round % 400 + 1));
		good += block != NULL;
		free(block);
		block = allocate_elsewhere(top - (uintptr_t)(round % 4) * 16, (size_t)(round % 400 + 1)); // its first word is the end
		good += block != NULL;
		free(block);
	}
	printf("%lu blocks\n", good);
	return 0;
}
