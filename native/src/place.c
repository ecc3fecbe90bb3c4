// place.c -- where a recording may live
//
// Context:   cold; may run inside malloc (forked child), so direct system calls and static buffers:
//            one opener at a time, guarded by the caller.
// Invariant: nothing is written or removed outside a directory that is ours and 0700.
// Why:       only tmpfs is mapped: a page that cannot be had there fails when it is backed, in
//            cold code, and not as SIGBUS in a hook.
// Proof:     tests/native/test_place.c; tests/integration/test_environment.py
#include "place.h"

#include "sys.h"
#include "text.h"

#include <linux/magic.h>
#include <sys/statfs.h>

// ---- the directory -----------------------------------------------------------------------------

static const char *check_directory(int fd)
{
	struct stat about;
	if (sys_fstat(fd, &about) < 0 || !S_ISDIR(about.st_mode))
		return "is not a directory";
	if (about.st_uid != (uid_t)sys_getuid())
		return "belongs to another user";
	if (about.st_mode & 0077)
		return "is open to others (want mode 0700)";
	return NULL;
}

static bool is_tmpfs(int fd)
{
	struct statfs system;
	return sys_fstatfs(fd, &system) == 0 && (unsigned long)system.f_type == TMPFS_MAGIC;
}

int place_open_directory(const char *path, const char **why)
{
	if (path[0] != '/') {
		*why = "is not an absolute path";
		return -1;
	}
	sys_mkdir(path, 0700); // umask can only take bits away; an existing one is checked below
	int fd = (int)sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (fd < 0) {
		*why = "cannot be made or opened";
		return -1;
	}
	*why = check_directory(fd);
	if (*why) {
		sys_close(fd);
		return -1;
	}
	return fd;
}

bool place_is_same(int directory_fd, int other_fd)
{
	struct stat one, other;
	return sys_fstat(directory_fd, &one) == 0 && sys_fstat(other_fd, &other) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

// ---- choosing ----------------------------------------------------------------------------------

static bool try_directory(const char *path, struct place *out)
{
	out->directory_fd = place_open_directory(path, &out->why);
	if (out->directory_fd < 0)
		return false;
	if (!is_tmpfs(out->directory_fd)) {
		sys_close(out->directory_fd);
		out->directory_fd = -1;
		out->why = "is not on tmpfs";
		return false;
	}
	struct text t = text_in(out->path, sizeof(out->path));
	text_add(&t, path);
	return !t.full;
}

// Ours alone, and a disk: recordings are copied there.
static bool is_good_for_copies(const char *directory)
{
	const char *why;
	int fd = place_open_directory(directory, &why);
	if (fd < 0)
		return false;
	sys_close(fd);
	return true;
}

void place_name(struct text *t, uint32_t pid, uint64_t start_ticks, uint64_t random)
{
	text_decimal(t, pid);
	text_char(t, '-');
	text_decimal(t, start_ticks);
	text_char(t, '-');
	text_hex16(t, random);
	text_add(t, ".mlrec");
}

bool place_choose(const char *directory, const char *runtime, uint64_t random, uint64_t start_ticks,
		  struct place *out)
{
	char path[280];
	out->directory_fd = -1;
	out->why = out->asked_why = NULL;
	bool chosen = directory && *directory && try_directory(directory, out);
	out->takes_copies = directory && *directory && !chosen && is_good_for_copies(directory);
	if (directory && *directory && !chosen && !out->takes_copies)
		out->asked_why = out->why;
	if (!chosen && runtime && *runtime) {
		struct text t = text_in(path, sizeof(path));
		text_add(&t, runtime);
		text_add(&t, "/memleak");
		chosen = !t.full && try_directory(path, out);
	}
	if (!chosen) {
		struct text t = text_in(path, sizeof(path));
		text_add(&t, "/dev/shm/memleak-");
		text_decimal(&t, (uint64_t)sys_getuid());
		chosen = try_directory(path, out);
	}
	if (!chosen)
		return false;

	size_t directory_length = text_length(out->path);
	struct text t = text_in(out->path + directory_length, sizeof(out->path) - directory_length);
	text_char(&t, '/');
	place_name(&t, (uint32_t)sys_getpid(), start_ticks, random);
	if (t.full) {
		sys_close(out->directory_fd);
		out->directory_fd = -1;
		out->why = "has too long a path";
		return false;
	}
	out->name = out->path + directory_length + 1;
	return true;
}
