// inject.c -- runs a program in which system calls of one library fail, and only that library's
//
// usage: inject LIBRARY CALL WHEN ERROR PROGRAM [ARGUMENT...]
// CALL is a number or -1: none. WHEN: its WHENth call fails, 0: every one. ERROR is an errno. The file that INJECT_REPORT
// names receives a line "CALL MADE FAILED" for each call that the library made, of all processes together. The exit
// status is the program's, 128 + SIGNAL if it was killed.
//
// A seccomp filter hands the calls to this process, which looks whether the instruction lies in the library's code.
// So no thread's signals matter, and forked and executed programs are seen, too.
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// What the library asks the kernel for; and execve, after which it lies elsewhere.
static const int watched[] = {
    SYS_close, SYS_fallocate, SYS_fstat, SYS_fstatfs, SYS_ftruncate, SYS_futex, SYS_get_robust_list, SYS_getcwd,
    SYS_getdents64, SYS_geteuid, SYS_getpid, SYS_getppid, SYS_getrandom, SYS_getrusage, SYS_gettid, SYS_getuid, SYS_madvise, SYS_mkdirat,
    SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_nanosleep, SYS_newfstatat, SYS_openat, SYS_prctl, SYS_prlimit64,
    SYS_pread64, SYS_pwrite64, SYS_read, SYS_readlinkat, SYS_renameat, SYS_rt_sigprocmask, SYS_set_robust_list, SYS_uname,
    SYS_unlinkat, SYS_utimensat, SYS_write, SYS_execve,
};
enum { WATCHED = sizeof(watched) / sizeof(watched[0]), TASKS = 4096, CALLS = 512 };

static const char *library;
static struct task {
	pid_t id;
	unsigned long long low, high; // of the library's code; 0: it is not there, or not known
} tasks[TASKS];
static unsigned made[CALLS], failed[CALLS];

static void fail(const char *what)
{
	fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
	exit(125);
}

// ---- the program ---------------------------------------------------------------------------------------

static int install(void)
{
	struct sock_filter code[2 * WATCHED + 2];
	unsigned n = 0;
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < WATCHED; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)watched[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog filter = {(unsigned short)n, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		fail("no new privileges");
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
}

union control {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

// From here on to execve() only calls that are not watched.
static void begin(int channel, char **command)
{
	int listener = install();
	char byte = 'x';
	union control control = {{0}};
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &listener, sizeof(int));
	if (listener < 0 || sendmsg(channel, &message, 0) != 1)
		_exit(125);
	execvp(command[0], command); // the channel and the listener are closed by that
	_exit(127);
}

static int receive(int channel)
{
	char byte;
	union control control;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&message))
		fail("the kernel hands no system calls over");
	int listener;
	memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return listener;
}

// ---- whose call is it? ---------------------------------------------------------------------------------

static void find_library(struct task *task)
{
	char path[64], line[4096];
	snprintf(path, sizeof(path), "/proc/%d/maps", task->id);
	FILE *maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long long low, high;
		char flags[5] = "";
		size_t length = strcspn(line, "\n"), wanted = strlen(library);
		if (sscanf(line, "%llx-%llx %4s", &low, &high, flags) == 3 && flags[2] == 'x' && length > wanted &&
		    strncmp(line + length - wanted, library, wanted) == 0)
			task->low = low, task->high = high;
	}
	if (maps)
		fclose(maps);
}

static bool is_ours(const struct seccomp_notif *call)
{
	struct task *task = &tasks[call->pid % TASKS];
	if ((unsigned)task->id != call->pid || call->data.nr == SYS_execve)
		*task = (struct task){.id = (pid_t)call->pid};
	if (!task->high && call->data.nr != SYS_execve)
		find_library(task);
	return call->data.instruction_pointer >= task->low && call->data.instruction_pointer < task->high;
}

// ---- until nobody is left ------------------------------------------------------------------------------

static void supervise(int listener, int number, unsigned when, int error)
{
	struct pollfd ready = {.fd = listener, .events = POLLIN};
	for (;;) {
		if (poll(&ready, 1, -1) < 0 && errno != EINTR)
			fail("poll");
		if (ready.revents & POLLHUP)
			return;
		struct seccomp_notif call = {0};
		if (!(ready.revents & POLLIN) || ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0)
			continue; // it was killed meanwhile
		struct seccomp_notif_resp answer = {.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
		if (call.data.nr < CALLS && is_ours(&call)) {
			unsigned count = ++made[call.data.nr];
			if (call.data.nr == number && (when == 0 || count == when)) {
				failed[number]++;
				answer = (struct seccomp_notif_resp){.id = call.id, .error = -error};
			}
		}
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

static void report(void)
{
	const char *name = getenv("INJECT_REPORT");
	FILE *file = name ? fopen(name, "we") : NULL;
	for (int i = 0; file && i < CALLS; i++)
		if (made[i])
			fprintf(file, "%d %u %u\n", i, made[i], failed[i]);
	if (file)
		fclose(file);
}

int main(int argc, char **argv)
{
	int pair[2], status;
	if (argc < 6) {
		fprintf(stderr, "usage: inject LIBRARY CALL WHEN ERROR PROGRAM [ARGUMENT...]\n");
		return 125;
	}
	library = argv[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		fail("socketpair");
	pid_t child = fork();
	if (child == 0)
		begin(pair[1], argv + 5);
	close(pair[1]);
	supervise(receive(pair[0]), atoi(argv[2]), (unsigned)atoi(argv[3]), atoi(argv[4]));
	waitpid(child, &status, 0);
	report();
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
