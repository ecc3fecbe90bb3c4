// sys.h -- system calls made directly, for cold code that may run inside malloc
//
// Layer 2. The libc wrappers are not usable there: they set errno, are cancellation points, and
// other preloaded libraries interpose them. Every function returns a value >= 0 or -errno.
// Per-architecture: this file and arch_*.h are the only ones with assembly.
#ifndef MEMLEAK_SYS_H
#define MEMLEAK_SYS_H

#include "base.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#if defined(__x86_64__)
static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#else
#error "sys.h: this architecture has no system call sequence yet"
#endif
#define sys_call(n, a, b, c) sys_call6((n), (long)(a), (long)(b), (long)(c), 0, 0, 0)

static inline long sys_openat(int dir, const char *path, int flags, int mode)
{
	return sys_call6(SYS_openat, dir, (long)path, flags, mode, 0, 0);
}
static inline long sys_close(int fd) { return sys_call(SYS_close, fd, 0, 0); }
static inline long sys_read(int fd, void *to, size_t bytes) { return sys_call(SYS_read, fd, to, bytes); }
static inline long sys_write(int fd, const void *from, size_t bytes) { return sys_call(SYS_write, fd, from, bytes); }
static inline long sys_fstat(int fd, struct stat *out) { return sys_call(SYS_fstat, fd, out, 0); }
static inline long sys_mkdir(const char *path, int mode) { return sys_call(SYS_mkdirat, AT_FDCWD, path, mode); }
static inline long sys_renameat(int dir, const char *from, const char *to)
{
	return sys_call6(SYS_renameat, dir, (long)from, dir, (long)to, 0, 0);
}
static inline long sys_pwrite(int fd, const void *from, size_t bytes, uint64_t offset)
{
	return sys_call6(SYS_pwrite64, fd, (long)from, (long)bytes, (long)offset, 0, 0);
}
static inline long sys_unlinkat(int dir, const char *name) { return sys_call(SYS_unlinkat, dir, name, 0); }
static inline long sys_ftruncate(int fd, uint64_t bytes) { return sys_call(SYS_ftruncate, fd, bytes, 0); }
static inline long sys_fstatfs(int fd, void *out) { return sys_call(SYS_fstatfs, fd, out, 0); }
static inline long sys_getdents(int fd, void *to, size_t bytes) { return sys_call(SYS_getdents64, fd, to, bytes); }
static inline long sys_readlink(const char *path, char *to, size_t bytes)
{
	return sys_call6(SYS_readlinkat, AT_FDCWD, (long)path, (long)to, (long)bytes, 0, 0);
}
static inline long sys_fallocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
	return sys_call6(SYS_fallocate, fd, mode, (long)offset, (long)bytes, 0, 0);
}
// Threads of this process, without a descriptor that the program might notice: the kernel counts them as links. 0: not known.
static inline unsigned sys_threads(void)
{
	struct stat about;
	bool known = sys_call6(SYS_newfstatat, AT_FDCWD, (long)"/proc/self/task", (long)&about, 0, 0, 0) == 0 && about.st_nlink > 2;
	return known ? (unsigned)about.st_nlink - 2 : 0;
}
static inline long sys_getpid(void) { return sys_call(SYS_getpid, 0, 0, 0); }
static inline long sys_getppid(void) { return sys_call(SYS_getppid, 0, 0, 0); }
static inline long sys_gettid(void) { return sys_call(SYS_gettid, 0, 0, 0); }
static inline long sys_getuid(void) { return sys_call(SYS_geteuid, 0, 0, 0); }
static inline long sys_getrandom(void *to, size_t bytes) { return sys_call(SYS_getrandom, to, bytes, 1 /* GRND_NONBLOCK */); }
static inline long sys_madvise(void *at, size_t bytes, int advice) { return sys_call(SYS_madvise, at, bytes, advice); }
static inline long sys_munmap(void *at, size_t bytes) { return sys_call(SYS_munmap, at, bytes, 0); }

// Writing or truncating beyond it would raise SIGXFSZ in the program.
static inline uint64_t sys_file_size_limit(void)
{
	struct rlimit limit;
	return sys_call6(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&limit, 0, 0) < 0 ? UINT64_MAX : limit.rlim_cur;
}

// NULL on failure.
static inline void *sys_mmap(size_t bytes, int protection, int flags, int fd)
{
	long at = sys_call6(SYS_mmap, 0, (long)bytes, protection, flags, fd, 0);
	return (unsigned long)at >= (unsigned long)-4095L ? NULL : (void *)at;
}

// Move a mapping to `to`, in place of what is mapped there: at no moment is nothing there. True if it was.
static inline bool sys_move_mapping(void *from, size_t bytes, void *to)
{
	return sys_call6(SYS_mremap, (long)from, (long)bytes, (long)bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (long)to, 0) == (long)to;
}

// The first bytes of a small file of /proc or /sys, terminated. Their number, < 0 if there is no such file.
static inline long sys_read_file(const char *path, char *to, size_t room)
{
	int fd = (int)sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	long n = sys_read(fd, to, room - 1);
	sys_close(fd);
	to[n > 0 ? n : 0] = 0;
	return n;
}

// Private zeroed memory, left out of core dumps. NULL on failure.
static inline void *sys_private_pages(size_t bytes)
{
	void *at = sys_mmap(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	if (at)
		sys_madvise(at, bytes, MADV_DONTDUMP);
	return at;
}

#endif
