// filtered.c -- forbids itself all system calls but those that an allocator makes, and is killed for any other
//
// usage: filtered [THREADS]. The main thread, or each of THREADS that it begins, installs the filter and allocates a great deal.
// Ends by _exit() below the filter.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int allowed[] = {SYS_write, SYS_exit, SYS_exit_group, SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect,
			      SYS_madvise, SYS_futex, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_set_robust_list, SYS_sched_yield};
enum { ALLOWED = sizeof(allowed) / sizeof(allowed[0]) };

static void forbid(void)
{
	struct sock_filter code[ALLOWED * 2 + 2];
	unsigned n = 0;
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < ALLOWED; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	struct sock_fprog program = {(unsigned short)n, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		_exit(9);
}

static void *work(void *number)
{
	static void *volatile kept[8][1000];
	size_t self = (size_t)number, sum = 0;
	forbid();
	for (size_t i = 0; i < 200000; i++) {
		void *volatile *place = &kept[self][i % 1000];
		size_t bytes = i % 5000 == 0 ? 400000 : 1 + i * 7 % 900;
		if (i % 3 == 0) {
			*place = realloc(*place, bytes);
		} else {
			free(*place);
			*place = i % 3 == 1 ? malloc(bytes) : calloc(1, bytes);
		}
		memset(*place, (int)i, 1);
		sum += bytes;
	}
	return (void *)sum;
}

int main(int argc, char **argv)
{
	pthread_t threads[8];
	size_t count = argc > 1 ? (size_t)atoi(argv[argc - 1]) : 0, sum = 0;
	for (size_t i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, work, (void *)i);
	for (size_t i = 0; i < count; i++) {
		void *result;
		pthread_join(threads[i], &result);
		sum += (size_t)result;
	}
	if (!count)
		sum = (size_t)work(NULL);
	char line[64];
	int length = snprintf(line, sizeof(line), "sum %zu\n", sum);
	_exit(write(1, line, (size_t)length) == length ? 4 : 5);
}
