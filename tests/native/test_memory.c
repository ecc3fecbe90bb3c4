// test_memory.c -- the limit is found in either kind of cgroup, and what is used of it
#include "fixture.h"

#include "memory.h"

#include <sys/wait.h>

static const char *root;
static struct memory_cgroup cgroup;

// Writes a file below the root; directories are made as needed.
static void put(const char *name, const char *text)
{
	char path[512];
	CHECK(snprintf(path, sizeof(path), "%s%s", root, name) < (int)sizeof(path));
	for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		mkdir(path, 0700);
		*slash = '/';
	}
	FILE *file = fopen(path, "w");
	CHECK(file && fputs(text, file) >= 0);
	if (file)
		fclose(file);
}

static void forget(void)
{
	char command[512];
	snprintf(command, sizeof(command), "rm -rf %s", root);
	CHECK(system(command) == 0);
	mkdir(root, 0700);
	put("/proc/meminfo", "MemTotal:        8000000 kB\nMemFree:  1 kB\nMemAvailable:    6000000 kB\n");
	put("/proc/self/statm", "50000 20000 300 4 0 30000 0\n");
}

static struct memory_bound found(void)
{
	memory_find_cgroup(&cgroup);
	return memory_look_at_cgroup(&cgroup);
}

static void test_version_2(void)
{
	forget();
	put("/proc/self/cgroup", "0::/system.slice/app.service\n");
	put("/sys/fs/cgroup/system.slice/app.service/memory.max", "100000000\n");
	put("/sys/fs/cgroup/system.slice/app.service/memory.current", "70000000\n");
	struct memory_bound bound = found();
	CHECK_EQUAL(bound.limit_bytes, 100000000);
	CHECK_EQUAL(bound.used_bytes, 70000000);
	CHECK_EQUAL(bound.kind, MLF_LIMIT_CGROUP);
	// Pages of files that nobody uses are given back before anything is killed.
	put("/sys/fs/cgroup/system.slice/app.service/memory.current", "95000000\n");
	put("/sys/fs/cgroup/system.slice/app.service/memory.stat", "anon 5\nfile 9\nactive_file 7\ninactive_file 30000000\n");
	CHECK_EQUAL(memory_look_at_cgroup(&cgroup).used_bytes, 65000000);
	// A limit that is changed counts at the next look.
	put("/sys/fs/cgroup/system.slice/app.service/memory.max", "200000000\n");
	CHECK_EQUAL(memory_look_at_cgroup(&cgroup).limit_bytes, 200000000);
	put("/sys/fs/cgroup/system.slice/app.service/memory.max", "max\n");
	CHECK_EQUAL(memory_look_at_cgroup(&cgroup).limit_bytes, 0);
}

static void test_of_several_the_nearest(void)
{
	forget();
	put("/proc/self/cgroup", "0::/pod/container\n");
	put("/sys/fs/cgroup/pod/container/memory.max", "100000000\n");
	put("/sys/fs/cgroup/pod/container/memory.current", "10000000\n");
	put("/sys/fs/cgroup/pod/memory.max", "150000000\n");
	put("/sys/fs/cgroup/pod/memory.current", "120000000\n");
	put("/sys/fs/cgroup/memory.max", "max\n");
	CHECK_EQUAL(found().limit_bytes, 150000000);
	put("/sys/fs/cgroup/pod/container/memory.current", "90000000\n");
	CHECK_EQUAL(found().limit_bytes, 100000000);
}

static void test_in_a_container(void)
{
	forget(); // its path is that of the host, and what it sees begins with its own
	put("/proc/self/cgroup", "0::/../../elsewhere\n");
	put("/sys/fs/cgroup/memory.max", "100000000\n");
	put("/sys/fs/cgroup/memory.current", "1000\n");
	CHECK_EQUAL(found().limit_bytes, 100000000);
	put("/proc/self/cgroup", "0::/docker/0123456789abcdef\n");
	CHECK_EQUAL(found().limit_bytes, 100000000);
}

static void test_version_1(void)
{
	forget();
	put("/proc/self/cgroup", "12:pids:/a\n7:name=memory:/wrong\n4:cpuset,memory:/app\n1:memory_other:/wrong\n0::/\n");
	put("/sys/fs/cgroup/memory/wrong/memory.limit_in_bytes", "1000\n");
	put("/sys/fs/cgroup/memory/wrong/memory.usage_in_bytes", "1000\n");
	put("/sys/fs/cgroup/memory/app/memory.limit_in_bytes", "9223372036854771712\n");
	CHECK_EQUAL(found().limit_bytes, 0);
	put("/sys/fs/cgroup/memory/app/memory.limit_in_bytes", "100000000\n");
	put("/sys/fs/cgroup/memory/app/memory.usage_in_bytes", "99000000\n");
	put("/sys/fs/cgroup/memory/app/memory.stat", "inactive_file 1\ntotal_cache 3\ntotal_inactive_file 9000000\n");
	CHECK_EQUAL(found().limit_bytes, 100000000);
	CHECK_EQUAL(found().used_bytes, 90000000);
	put("/proc/self/cgroup", "4:memory:/docker/0123456789abcdef\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "50000000\n");
	CHECK_EQUAL(found().limit_bytes, 50000000);
}

static void test_no_cgroup(void)
{
	uint64_t resident = 0;
	forget();
	put("/proc/self/cgroup", "0::/\n");
	memory_find_cgroup(&cgroup);
	struct memory_bound bound = memory_look(&cgroup, &resident);
	CHECK_EQUAL(bound.kind, MLF_LIMIT_MACHINE);
	CHECK_EQUAL(bound.limit_bytes, 8000000L << 10);
	CHECK_EQUAL(bound.used_bytes, 2000000L << 10);
	CHECK_EQUAL(resident, 20000 * 4096);
	// A limit above what the machine has is none.
	put("/sys/fs/cgroup/memory.max", "900000000000\n");
	put("/sys/fs/cgroup/memory.current", "1\n");
	CHECK_EQUAL(found().limit_bytes, 0);
	forget();
	char path[512];
	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	unlink(path);
	memory_find_cgroup(&cgroup);
	CHECK_EQUAL(memory_look(&cgroup, &resident).limit_bytes, 0);
}

static void limit(int which, uint64_t bytes)
{
	struct rlimit both = {bytes, bytes};
	CHECK(setrlimit(which, &both) == 0);
}

static void test_limits_of_the_process(void)
{
	uint64_t resident;
	forget();
	put("/proc/self/cgroup", "0::/app\n");
	put("/sys/fs/cgroup/app/memory.max", "1000000000\n");
	put("/sys/fs/cgroup/app/memory.current", "100000000\n");
	memory_find_cgroup(&cgroup);
	CHECK_EQUAL(memory_look(&cgroup, &resident).kind, MLF_LIMIT_CGROUP);
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		checks_failed = 0;
		limit(RLIMIT_AS, 1UL << 30); // 19 % of it
		struct memory_bound bound = memory_look(&cgroup, &resident);
		CHECK_EQUAL(bound.kind, MLF_LIMIT_ADDRESS_SPACE);
		CHECK_EQUAL(bound.used_bytes, 50000 * 4096);
		limit(RLIMIT_DATA, 256UL << 20); // 46 %
		bound = memory_look(&cgroup, &resident);
		CHECK_EQUAL(bound.kind, MLF_LIMIT_DATA);
		CHECK_EQUAL(bound.used_bytes, 30000 * 4096);
		_exit(checks_failed ? 1 : 0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_the_real_files(void)
{
	uint64_t resident = 0;
	memory_root = "";
	memory_find_cgroup(&cgroup);
	struct memory_bound bound = memory_look(&cgroup, &resident);
	CHECK(bound.limit_bytes > 1 << 20 && bound.used_bytes < bound.limit_bytes);
	CHECK(resident > 100000 && resident < 1UL << 30);
}

int main(void)
{
	memory_root = root = temporary_directory();
	test_version_2();
	test_of_several_the_nearest();
	test_in_a_container();
	test_version_1();
	test_no_cgroup();
	test_limits_of_the_process();
	test_the_real_files();
	char command[512];
	snprintf(command, sizeof(command), "rm -rf %s", root);
	CHECK(system(command) == 0);
	return harness_end();
}
