// siblings.c -- the recordings that are in a directory already, and the room they leave
//
// Context:   cold; may run inside malloc (forked child), so direct system calls and static buffers:
//            one caller at a time, guarded by the callers.
// Invariant: a living process's recording is never removed, nor anything that has not a recording's name.
// Why:       the dead never stand in the way of the living: a crash loop must not fill memory.
// Proof:     tests/native/test_place.c; tests/integration/test_environment.py, test_copies.py
#include "siblings.h"

#include "clock.h"
#include "memory.h"
#include "memleak_format.h"
#include "sys.h"
#include "text.h"

#include <sys/statfs.h>

#define DEAD_KEPT 16
#define DEAD_BYTES_KEPT (64UL << 20)
#define ROOM_KEPT_FREE (3UL << 20) // what a recording starts with
#define SHARE_OF_FILE_SYSTEM 8
#define NAMES_MAX 512 // recordings looked at in one directory
// A volume outlives containers, whose processes cannot be judged from the next one: a copy that was not renewed for so
// long, which a living process with threads does every minute, counts as a dead one's.
#define COPY_STALE_NS (900UL * 1000000000UL)

// ---- processes -------------------------------------------------------------------------------------

static bool read_stat(uint32_t pid, char *stat, size_t bytes)
{
	char path[32];
	struct text t = text_in(path, sizeof(path));
	text_add(&t, "/proc/");
	text_decimal(&t, pid);
	text_add(&t, "/stat");
	return sys_read_file(path, stat, bytes) > 0;
}

uint64_t siblings_process_start_ticks(uint32_t pid)
{
	char stat[512];
	return read_stat(pid, stat, sizeof(stat)) ? text_stat_field(stat, 22) : 0;
}

// The same, but 0 for one that has ended and waits for its parent to notice. (A main thread alone may have ended, too.)
static NOINLINE uint64_t living_since(uint32_t pid)
{
	char stat[512];
	if (!read_stat(pid, stat, sizeof(stat)))
		return 0;
	bool zombie = text_stat_letter(stat) == 'Z' && text_stat_field(stat, 20) <= 1;
	return zombie ? 0 : text_stat_field(stat, 22);
}

// ---- which are there -----------------------------------------------------------------------------

struct found {
	uint64_t bytes, modified_ns;
	char name[64];
	bool dead;
};
static struct found found[NAMES_MAX];
static char entries[4096];

// Is this name PID-START-RANDOM.mlrec? A point before it: of a copy that is not finished.
static bool parse_name(const char *name, uint32_t *pid, uint64_t *start_ticks)
{
	uint64_t number, random;
	name += *name == '.';
	if (!text_parse_decimal(&name, &number) || number > INT32_MAX || *name++ != '-' ||
	    !text_parse_decimal(&name, start_ticks) || *name++ != '-' || !text_parse_hex(&name, 16, &random))
		return false;
	*pid = (uint32_t)number;
	return text_equal(name, ".mlrec");
}

uint64_t siblings_pid_namespace(void)
{
	char link[64] = {0};
	uint64_t inode = 0;
	long n = sys_readlink("/proc/self/ns/pid", link, sizeof(link) - 1);
	for (const char *s = link; n > 0 && *s; s++)
		if (*s == '[') {
			s++;
			text_parse_decimal(&s, &inode);
			break;
		}
	return inode;
}

// Is this recording finished: its process gone, or stopped by it?
static bool is_dead(int directory_fd, const char *name, uint32_t pid, uint64_t start_ticks, uint64_t own_pid_namespace)
{
	// A process of another pid namespace cannot be judged from here: take it for alive.
	enum { WANTED = offsetof(struct mlf_header, pid_namespace) + sizeof(uint64_t) };
	unsigned char head[WANTED];
	uint64_t magic = 0, namespace = 0;
	uint32_t state = 0;
	int fd = (int)sys_openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	long n = sys_read(fd, head, WANTED);
	sys_close(fd);
	if (n == WANTED) {
		__builtin_memcpy(&magic, head + offsetof(struct mlf_header, magic), sizeof(magic));
		__builtin_memcpy(&state, head + offsetof(struct mlf_header, state), sizeof(state));
		__builtin_memcpy(&namespace, head + offsetof(struct mlf_header, pid_namespace), sizeof(namespace));
	}
	if (magic == MLF_MAGIC && state == MLF_STATE_STOPPED)
		return true;
	if (!own_pid_namespace)
		return false; // no /proc here: nothing could be told
	if (namespace && namespace != own_pid_namespace)
		return false;
	return living_since(pid) != start_ticks;
}

struct linux_dirent64 {
	uint64_t inode;
	int64_t offset;
	uint16_t length;
	uint8_t type;
	char name[];
};

// Calls `each` for every recording in the directory, until it returns false.
static void visit(int directory_fd, char *buffer, size_t bytes, bool (*each)(const char *, const struct stat *, void *), void *to)
{
	int fd = (int)sys_openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	for (long got; (got = sys_getdents(fd, buffer, bytes)) > 0;) {
		for (long at = 0; at < got;) {
			struct linux_dirent64 *entry = (struct linux_dirent64 *)(void *)(buffer + at);
			at += entry->length;
			uint32_t pid;
			uint64_t start_ticks;
			struct stat about;
			if (text_length(entry->name) >= sizeof(found[0].name) || !parse_name(entry->name, &pid, &start_ticks))
				continue;
			if (sys_call6(SYS_newfstatat, directory_fd, (long)entry->name, (long)&about,
				      AT_SYMLINK_NOFOLLOW, 0, 0) < 0 ||
			    !S_ISREG(about.st_mode))
				continue;
			if (!each(entry->name, &about, to)) {
				sys_close(fd);
				return;
			}
		}
	}
	sys_close(fd);
}

struct listing {
	int directory_fd;
	unsigned n; // of found[]
	uint64_t total; // bytes
	uint64_t own_pid_namespace;
};

static bool list_one(const char *name, const struct stat *about, void *to)
{
	struct listing *listing = to;
	struct found *f = &found[listing->n];
	uint32_t pid;
	uint64_t start_ticks;
	if (listing->n == NAMES_MAX || !parse_name(name, &pid, &start_ticks))
		return false;
	listing->n++;
	struct text t = text_in(f->name, sizeof(f->name));
	text_add(&t, name);
	f->bytes = (uint64_t)about->st_blocks * 512;
	f->modified_ns = (uint64_t)about->st_mtim.tv_sec * 1000000000u + (uint64_t)about->st_mtim.tv_nsec;
	f->dead = is_dead(listing->directory_fd, name, pid, start_ticks, listing->own_pid_namespace);
	listing->total += f->bytes;
	return true;
}

// Fills found[]; returns how many, and the bytes they use in *total.
static unsigned list(int directory_fd, uint64_t *total)
{
	struct listing listing = {.directory_fd = directory_fd, .own_pid_namespace = siblings_pid_namespace()};
	visit(directory_fd, entries, sizeof(entries), list_one, &listing);
	*total = listing.total;
	return listing.n;
}

static bool add_bytes(const char *name, const struct stat *about, void *to)
{
	(void)name;
	*(uint64_t *)to += (uint64_t)about->st_blocks * 512;
	return true;
}

// What the recordings in there use. Needs no static buffer: a copy may be made while the recording grows.
static NOINLINE uint64_t bytes_of_ours(int directory_fd)
{
	char buffer[1024] __attribute__((aligned(8)));
	uint64_t total = 0;
	visit(directory_fd, buffer, sizeof(buffer), add_bytes, &total);
	return total;
}

// Gives back what a dead recording had backed and never used (all but 1 % of a short full-mode run). A hole and not
// a truncation: a forked child may still have the file mapped, and must not meet its end.
static void trim(int directory_fd, struct found *f)
{
	uint64_t words[offsetof(struct mlf_header, room_used) / 8 + 1];
	struct stat about;
	int fd = (int)sys_openat(directory_fd, f->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sys_read(fd, words, sizeof(words)) == sizeof(words) && sys_fstat(fd, &about) == 0) {
		uint64_t used = round_up(words[ARRAY_LEN(words) - 1], PAGE_BYTES), size = (uint64_t)about.st_size;
		struct timespec times[2] = {about.st_atim, about.st_mtim}; // its age decides what is pruned next
		if (used >= MLF_ROOM_OFFSET && used < size &&
		    sys_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, used, size - used) == 0) {
			sys_call6(SYS_utimensat, fd, 0, (long)times, 0, 0, 0);
			if (sys_fstat(fd, &about) == 0)
				f->bytes = (uint64_t)about.st_blocks * 512;
		}
	}
	sys_close(fd);
}

static uint64_t trim_dead(int directory_fd, unsigned n)
{
	uint64_t dead_bytes = 0;
	for (unsigned i = 0; i < n; i++)
		if (found[i].dead) {
			trim(directory_fd, &found[i]);
			dead_bytes += found[i].bytes;
		}
	return dead_bytes;
}

static uint64_t share_of_file_system(int directory_fd)
{
	struct statfs system;
	if (sys_fstatfs(directory_fd, &system) < 0 || system.f_blocks == 0) // 0: a tmpfs without limit
		return UINT64_MAX;
	return system.f_blocks * (uint64_t)system.f_bsize / SHARE_OF_FILE_SYSTEM;
}

// Keeps the newest DEAD_KEPT dead recordings within DEAD_BYTES_KEPT and half of our share, one place kept free for us:
// the dead never stand in the way of the living.
static void prune(int directory_fd, uint64_t stale_before_ns)
{
	uint64_t share = share_of_file_system(directory_fd);
	uint64_t kept = share / 2 < DEAD_BYTES_KEPT ? share / 2 : DEAD_BYTES_KEPT;
	uint64_t room = share / 16 < ROOM_KEPT_FREE ? share / 16 : ROOM_KEPT_FREE;
	uint64_t total, dead_bytes = 0;
	unsigned n = list(directory_fd, &total), dead = 0;
	for (unsigned i = 0; i < n; i++)
		if (found[i].dead || found[i].modified_ns < stale_before_ns) {
			found[i].dead = true;
			dead++;
			dead_bytes += found[i].bytes;
		}
	uint64_t living_bytes = total - dead_bytes;
	if (dead_bytes > kept || total + room > share)
		dead_bytes = trim_dead(directory_fd, n);
	while (dead >= DEAD_KEPT || dead_bytes > kept || (dead && living_bytes + dead_bytes + room > share)) {
		struct found *oldest = NULL;
		for (unsigned i = 0; i < n; i++)
			if (found[i].dead && (!oldest || found[i].modified_ns < oldest->modified_ns))
				oldest = &found[i];
		if (!oldest)
			return;
		sys_unlinkat(directory_fd, oldest->name);
		oldest->dead = false;
		dead--;
		dead_bytes -= oldest->bytes;
	}
}

void siblings_prune(int directory_fd) { prune(directory_fd, 0); }

void siblings_prune_copies(int directory_fd) { prune(directory_fd, clock_realtime_ns() - COPY_STALE_NS); }

// ---- room --------------------------------------------------------------------------------------

// Bytes up to 90 % of the cgroup's limit.
static uint64_t cgroup_room(void)
{
	static struct memory_cgroup cgroup;
	memory_find_cgroup(&cgroup);
	struct memory_bound bound = memory_look_at_cgroup(&cgroup);
	uint64_t usable = bound.limit_bytes / 10 * 9;
	return !bound.limit_bytes ? UINT64_MAX : usable > bound.used_bytes ? usable - bound.used_bytes : 0;
}

static uint64_t least_of(uint64_t a, uint64_t b) { return a < b ? a : b; }

// What is left of our share beside `kept` bytes; the file system and the cgroup have that much.
static uint64_t room(int directory_fd, uint64_t kept, uint64_t *of_share)
{
	struct statfs system;
	uint64_t share = share_of_file_system(directory_fd);
	*of_share = 0;
	if (sys_fstatfs(directory_fd, &system) < 0)
		return 0;
	uint64_t ours = bytes_of_ours(directory_fd);
	*of_share = share > ours + kept ? share - ours - kept : 0;
	uint64_t free = system.f_blocks ? system.f_bavail * (uint64_t)system.f_bsize : UINT64_MAX; // 0: a tmpfs without limit
	return least_of(free, cgroup_room());
}

bool siblings_have_room(int directory_fd, uint64_t more)
{
	uint64_t of_share, there = room(directory_fd, 0, &of_share);
	return more <= least_of(there, of_share);
}

bool siblings_copy_fits(int directory_fd, uint64_t bytes)
{
	struct statfs system;
	if (sys_fstatfs(directory_fd, &system) < 0)
		return false;
	uint64_t free = system.f_blocks ? system.f_bavail * (uint64_t)system.f_bsize : UINT64_MAX;
	return bytes <= free && bytes_of_ours(directory_fd) + bytes <= share_of_file_system(directory_fd);
}

bool siblings_make_room(int directory_fd, uint64_t more)
{
	enum { TRIES = 16 }; // workers that are replaced together open together: each try gives one of them its place
	for (unsigned i = 0; i < TRIES; i++) {
		if (siblings_have_room(directory_fd, more))
			return true;
		prune(directory_fd, 0);
	}
	return siblings_have_room(directory_fd, more);
}

uint64_t siblings_may_grow(const char *file_path, uint64_t bytes, uint64_t most)
{
	char directory[512];
	size_t length = text_length(file_path);
	while (length && file_path[length - 1] != '/')
		length--;
	if (length < 2 || length >= sizeof(directory))
		return 0;
	for (size_t i = 0; i < length - 1; i++)
		directory[i] = file_path[i];
	directory[length - 1] = 0;
	int fd = (int)sys_openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	uint64_t of_share, there = room(fd, bytes, &of_share);
	sys_close(fd);
	return least_of(most, least_of(there, of_share / 2));
}

uint64_t siblings_fair_start(int directory_fd, uint64_t wanted, uint64_t least)
{
	uint64_t share = share_of_file_system(directory_fd) / 16;
	return share >= wanted ? wanted : share < least ? least : round_down(share, PAGE_BYTES);
}
