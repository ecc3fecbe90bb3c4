// test_siblings.c -- which recordings of the dead are removed, and how much room the living have
#include "fixture.h"

#include "place.h"
#include "siblings.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static const char *directory;

static void path_of(const char *name, char *out) { CHECK(snprintf(out, 256, "%s/%s", directory, name) < 256); }

static bool exists(const char *name)
{
	char path[256];
	struct stat about;
	path_of(name, path);
	return lstat(path, &about) == 0;
}

// A recording of that size in memory, last written `age` seconds ago.
static void make(const char *name, uint64_t bytes, unsigned age, uint64_t pid_namespace)
{
	char path[256];
	path_of(name, path);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	struct mlf_header header = {.pid_namespace = pid_namespace};
	CHECK(write(fd, &header, sizeof(header)) == (ssize_t)sizeof(header) && posix_fallocate(fd, 0, (off_t)bytes) == 0);
	close(fd);
	struct timespec now, times[2];
	clock_gettime(CLOCK_REALTIME, &now);
	times[0] = times[1] = (struct timespec){now.tv_sec - age, 0};
	CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
}

static uint64_t own_start(void) { return siblings_process_start_ticks((uint32_t)getpid()); }

// A name of ours: of a process that lives, or of one with our pid that must be gone.
static const char *name_of(pid_t pid, bool dead, unsigned number)
{
	static char names[64][64];
	char *name = names[number % 64];
	snprintf(name, 64, "%d-%lu-%016x.mlrec", pid, siblings_process_start_ticks((uint32_t)pid) - dead, number);
	return name;
}

static void open_place(struct place *place)
{
	CHECK(place_choose(directory, NULL, 1, 2, place));
	siblings_prune(place->directory_fd);
}

static void choose(void)
{
	struct place place;
	open_place(&place);
	close(place.directory_fd);
}

static void test_sixteen_are_kept(void)
{
	for (unsigned i = 0; i < 20; i++)
		make(name_of(getpid(), true, i), 4096, 1000 - 10 * i, 0); // the higher, the newer
	choose();
	for (unsigned i = 0; i < 20; i++)
		CHECK(exists(name_of(getpid(), true, i)) == (i >= 5)); // fifteen, and room for the coming one
	remove_directory(directory);
	mkdir(directory, 0700);
}

static void test_bytes_are_bounded(void)
{
	for (unsigned i = 0; i < 4; i++)
		make(name_of(getpid(), true, i), 20U << 20, i == 2 ? 5000 : 100 * i + 1, 0);
	choose(); // 80 MiB: the oldest goes, whatever its place
	for (unsigned i = 0; i < 4; i++)
		CHECK(exists(name_of(getpid(), true, i)) == (i != 2));
	remove_directory(directory);
	mkdir(directory, 0700);
}

static void test_only_the_dead_go(void)
{
	static const char *const foreign[] = {
	    "notes.txt", "1-2-3.mlrec", "1-2-0123456789abcdef.mlrec.bak", "x1-2-0123456789abcdef.mlrec", "-2-0123456789abcdef.mlrec",
	    "1-2-0123456789ABCDEF.mlrec", "99999999999-2-0123456789abcdef.mlrec", "1-2-0123456789abcdef0.mlrec", ".mlrec",
	};
	pid_t child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	char path[256], target[256];
	for (unsigned i = 0; i < ARRAY_LEN(foreign); i++)
		make(foreign[i], 4096, 100000, 0);
	path_of("1-2-00000000000000aa.mlrec", path);
	path_of("notes.txt", target);
	CHECK(symlink(target, path) == 0);
	path_of("1-2-00000000000000bb.mlrec", path);
	CHECK(mkdir(path, 0700) == 0);
	uint64_t namespace = siblings_pid_namespace();
	const char *mine = name_of(getpid(), false, 20), *its = name_of(child, false, 21);
	make(mine, 40U << 20, 100000, namespace); // old and large, but alive
	make(its, 40U << 20, 100000, namespace);
	make(name_of(getpid(), true, 22), 4096, 100000, namespace + 1); // not to be judged from here
	for (unsigned i = 0; i < 20; i++)
		make(name_of(getpid(), true, i), 4096, 100, namespace);
	choose();
	for (unsigned i = 0; i < ARRAY_LEN(foreign); i++)
		CHECK(exists(foreign[i]));
	CHECK(exists("1-2-00000000000000aa.mlrec") && exists("1-2-00000000000000bb.mlrec"));
	CHECK(exists(mine) && exists(its) && exists(name_of(getpid(), true, 22)));
	unsigned left = 0;
	for (unsigned i = 0; i < 20; i++)
		left += exists(name_of(getpid(), true, i));
	CHECK_EQUAL(left, 15);
	char name[64];
	strcpy(name, its);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	choose();
	CHECK(!exists(name)); // it is dead now, and the oldest
	rmdir(path);
}

static unsigned recordings(void)
{
	unsigned n = 0;
	DIR *d = opendir(directory);
	for (struct dirent *entry; (entry = readdir(d));)
		n += strstr(entry->d_name, ".mlrec") != NULL;
	closedir(d);
	return n;
}

// Without /proc nothing says who lives.
static void test_no_proc(void)
{
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		struct place place;
		checks_failed = 0;
		for (unsigned i = 30; i < 50; i++)
			make(name_of(getppid(), false, i), 4096, 50, siblings_pid_namespace());
		unsigned before = recordings();
		if (chroot(tmpfs()) != 0) // not root: nothing to see here
			_exit(0);
		directory += strlen(tmpfs());
		CHECK(siblings_process_start_ticks((uint32_t)getppid()) == 0 && siblings_pid_namespace() == 0);
		open_place(&place);
		CHECK_EQUAL(recordings(), before);
		_exit(checks_failed ? 1 : 0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_start_ticks(void)
{
	uint64_t ticks = own_start();
	CHECK(ticks != 0);
	static const char *const names[] = {"a) 1 (b", ") R 1 1 1 1", "((((", "))))", " "};
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		prctl(PR_SET_NAME, names[i]);
		CHECK_EQUAL(own_start(), ticks);
	}
	CHECK_EQUAL(siblings_process_start_ticks(INT32_MAX), 0);
	struct stat about;
	CHECK(stat("/proc/self/ns/pid", &about) == 0 && siblings_pid_namespace() == about.st_ino);
}

static void test_room(void)
{
	struct place place;
	remove_directory(directory);
	mkdir(directory, 0700);
	open_place(&place);
	CHECK(siblings_have_room(place.directory_fd, 4096));
	CHECK(!siblings_have_room(place.directory_fd, 1ULL << 60));
	CHECK(!siblings_have_room(-1, 4096) && !siblings_may_grow("/proc/none/x", 4096, 4096) && !siblings_may_grow("x", 4096, 4096));
	CHECK(siblings_may_grow(place.path, 4096, 4096) && !siblings_may_grow(place.path, 1ULL << 60, 4096));
	CHECK_EQUAL(siblings_may_grow(place.path, 4096, 4096), 4096);
	uint64_t fair = siblings_fair_start(place.directory_fd, 3U << 20, 1U << 19);
	CHECK(fair >= 1U << 19 && fair <= 3U << 20);
	CHECK_EQUAL(siblings_fair_start(place.directory_fd, 1ULL << 60, 1U << 19) % PAGE_BYTES, 0);
	CHECK(siblings_fair_start(place.directory_fd, 1ULL << 60, 1U << 19) < 1ULL << 50);
	close(place.directory_fd);
}

// In a child with a file system of 64 MiB in our directory, 8 MiB of it for us.
static void in_a_small_place(void (*test)(struct place *))
{
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		checks_failed = 0;
		remove_directory(directory);
		mkdir(directory, 0700);
		if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		    mount("none", directory, "tmpfs", 0, "size=64m,mode=0700") != 0)
			_exit(0); // not root: nothing to see here
		struct place place;
		test(&place);
		_exit(checks_failed ? 1 : 0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#define LEAST (512U << 10)

// Another process took the place that was kept free for ours: the dead give way once more.
static void test_room_is_made_again(struct place *place)
{
	for (unsigned i = 0; i < 7; i++)
		make(name_of(getppid(), true, i), LEAST, 50 - i, siblings_pid_namespace());
	make(name_of(getppid(), false, 8), 4 << 20, 50, siblings_pid_namespace());
	open_place(place);
	CHECK(siblings_have_room(place->directory_fd, LEAST));
	unsigned before = recordings();
	make(name_of(getppid(), false, 9), LEAST, 0, siblings_pid_namespace());
	CHECK(!siblings_have_room(place->directory_fd, LEAST));
	CHECK(siblings_make_room(place->directory_fd, LEAST));
	CHECK_EQUAL(recordings(), before); // one more lives, one of the dead has gone
	CHECK(!siblings_make_room(place->directory_fd, 4 << 20));
	CHECK(exists(name_of(getppid(), false, 8)) && exists(name_of(getppid(), false, 9)));
}

// However early they begin and however much they want: those that grow leave room for one that comes.
static void test_growth_leaves_room_for_others(struct place *place)
{
	enum { STEP = 1 << 18, GROWING = 4 };
	open_place(place);
	uint64_t bytes[GROWING] = {0};
	for (unsigned i = 0; i < GROWING; i++) {
		const char *name = name_of(getppid(), false, i);
		bytes[i] = LEAST;
		make(name, bytes[i], 0, siblings_pid_namespace());
		char path[256];
		path_of(name, path);
		int fd = open(path, O_RDWR);
		while (siblings_may_grow(path, bytes[i], STEP) == STEP && bytes[i] < 64 << 20)
			CHECK(posix_fallocate(fd, 0, (off_t)(bytes[i] += STEP)) == 0);
		close(fd);
		CHECK(siblings_have_room(place->directory_fd, LEAST));
		if (i == 0) {
			CHECK_EQUAL(bytes[0] + siblings_may_grow(path, bytes[0], 64 << 20), 4U << 20); // all of it at once, too
			CHECK_EQUAL(LEAST + siblings_may_grow(path, LEAST, 64 << 20), LEAST + ((8U << 20) - bytes[0] - LEAST) / 2);
		}
	}
	CHECK_EQUAL(bytes[0], 4U << 20);
	CHECK(bytes[1] > LEAST);
}

// Nobody has waited for it yet.
static void test_zombie_is_dead(void)
{
	remove_directory(directory);
	mkdir(directory, 0700);
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	siginfo_t info;
	for (unsigned i = 0; i < 17; i++)
		make(name_of(child, false, i), 4096, 50 - i, siblings_pid_namespace());
	CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0);
	choose();
	CHECK_EQUAL(recordings(), 15);
	CHECK(waitpid(child, NULL, 0) == child);
}

// A copy that nobody renews is a dead process's, wherever that was; one that is renewed is not.
static void test_copies_of_other_containers(void)
{
	remove_directory(directory);
	mkdir(directory, 0700);
	uint64_t elsewhere = siblings_pid_namespace() + 1;
	char unfinished[64];
	for (unsigned i = 0; i < 20; i++)
		make(name_of(getpid(), true, i), 4096, 1000 + i, elsewhere);
	for (unsigned i = 20; i < 40; i++)
		make(name_of(getpid(), true, i), 4096, 800, elsewhere);
	snprintf(unfinished, sizeof(unfinished), ".%s", name_of(getpid(), true, 41));
	make(unfinished, 4096, 5000, elsewhere);
	int fd = open(directory, O_RDONLY | O_DIRECTORY);
	siblings_prune(fd);
	CHECK_EQUAL(recordings(), 41);
	siblings_prune_copies(fd);
	close(fd);
	CHECK_EQUAL(recordings(), 15 + 20);
	CHECK(exists(name_of(getpid(), true, 0)) && !exists(name_of(getpid(), true, 19)) && !exists(unfinished));
}

int main(void)
{
	directory = temporary_directory();
	test_sixteen_are_kept();
	test_bytes_are_bounded();
	test_only_the_dead_go();
	test_no_proc();
	test_start_ticks();
	test_room();
	in_a_small_place(test_room_is_made_again);
	in_a_small_place(test_growth_leaves_room_for_others);
	test_zombie_is_dead();
	test_copies_of_other_containers();
	remove_directory(directory);
	return harness_end();
}
