// filter.h -- system calls that are refused, or at which something else happens, as a program's seccomp filter makes them
#ifndef FILTER_H
#define FILTER_H

#include "harness.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

struct filtered {
	long number;
	unsigned argument; // which must be `value` for the action
	uint32_t value;
	uint32_t action; // SECCOMP_RET_*
};

#define REFUSE(error) (SECCOMP_RET_ERRNO | (error))
#define POPULATE_WRITE 23 // MADV_POPULATE_WRITE

// Does the kernel tell by madvise() whether a page may be written to? Before Linux 5.14 it is not asked.
static inline bool kernel_tells_pages(void)
{
	static char page[8192];
	return madvise((void *)(((uintptr_t)page + 4095) & ~4095UL), 4096, POPULATE_WRITE) == 0;
}

// What happens at a call whose action is SECCOMP_RET_TRAP; the call itself is not made, this is its result.
static long (*filter_trapped)(const greg_t *registers);

static inline void filter_handler(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info;
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	registers[REG_RAX] = filter_trapped(registers);
}

// From here on, in this process; there is no way back.
static inline void filter_install(const struct filtered *rules, unsigned count)
{
	struct sock_filter code[64];
	unsigned n = 0;
	for (unsigned i = 0; i < count; i++) {
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)rules[i].number, 0, 3);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							 (uint32_t)(offsetof(struct seccomp_data, args) + 8 * rules[i].argument));
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rules[i].value, 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, rules[i].action);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {(unsigned short)n, code};
	struct sigaction action = {.sa_sigaction = filter_handler, .sa_flags = SA_SIGINFO};
	CHECK(sigaction(SIGSYS, &action, NULL) == 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

// Runs `body` in a forked child, whose failed checks are ours.
static inline void in_child(void (*body)(void))
{
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		checks_failed = 0;
		body();
		_exit(checks_failed ? 1 : 0);
	}
	int status = -1;
	CHECK(waitpid(child, &status, 0) == child);
	CHECK_EQUAL(status, 0);
}

#endif
