// test_modules.c -- ids of loaded objects: stable, shared by reloads, new for newcomers
//
//     test_modules [--own-snapshot]        without arguments: both ways of finding modules
#include "harness.h"
#include "own_snapshot.h"

#include "modules.h"
#include "unwind.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static bool own_snapshot;
static char directory[] = "/tmp/memleak-modules-XXXXXX";

// Build a library whose two functions are `pad` bytes apart, so that different ones differ in code.
static void build(const char *name, unsigned pad, const char *flags)
{
	char command[1024];
	snprintf(command, sizeof command,
		 "cd %s && printf 'void *keep; int pad(int x){__asm__ volatile(\".fill %u,1,0x90\");return x;}"
		 "void call(void (*f)(void)){f();keep=f;}' | cc -shared -fPIC -O1 %s -x c - -o %s",
		 directory, pad, flags, name);
	CHECK_EQUAL(system(command), 0);
}

struct loaded {
	void *handle;
	uintptr_t base, call;
};

static struct loaded load(const char *name)
{
	char path[256];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	struct loaded loaded = {.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
	CHECK(loaded.handle != NULL);
	if (!loaded.handle) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	loaded.call = (uintptr_t)dlsym(loaded.handle, "call");
	loaded.base = ((struct link_map *)loaded.handle)->l_addr;
	if (own_snapshot)
		modules_refresh();
	return loaded;
}

static void unload(struct loaded loaded)
{
	modules_note_unload();
	dlclose(loaded.handle);
	modules_note_unload();
}

static bool ends_with(const char *text, const char *end)
{
	size_t a = strlen(text), b = strlen(end);
	return a >= b && strcmp(text + a - b, end) == 0;
}

static int agree(struct dl_phdr_info *info, size_t bytes, void *unused)
{
	(void)bytes, (void)unused;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];
		if (phdr->p_type != PT_LOAD || !(phdr->p_flags & PF_X))
			continue;
		uintptr_t middle = info->dlpi_addr + phdr->p_vaddr + phdr->p_memsz / 2;
		unsigned id = modules_find(middle);
		CHECK(id > 0 && id < modules_count());
		const struct module *module = modules_get(id);
		CHECK_EQUAL(module->state, MODULE_VALID);
		CHECK_EQUAL(modules_base(id), info->dlpi_addr);
		CHECK_EQUAL(module->image.bias, info->dlpi_addr);
		CHECK(info->dlpi_name[0] == 0 || strcmp(module->path, info->dlpi_name) == 0);
		CHECK(middle >= module->image.text_low && middle < module->image.text_high);
	}
	return 0;
}

static void test_known_objects(void)
{
	dl_iterate_phdr(agree, NULL);
	unsigned main_id = modules_find((uintptr_t)test_known_objects);
	const struct module *main_module = modules_get(main_id);
	char path[1024] = {0};
	CHECK(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
	CHECK(strcmp(main_module->path, path) == 0);
	CHECK_EQUAL(main_module->flags, MLF_MODULE_MAIN | MLF_MODULE_CORE); // linked into this test
	CHECK(main_module->image.build_id_bytes == 20 || main_module->image.build_id_bytes == 0);
	unsigned libc_id = modules_find((uintptr_t)dlsym(RTLD_DEFAULT, "gnu_get_libc_version"));
	CHECK(libc_id && libc_id != main_id && ends_with(modules_get(libc_id)->path, "/libc.so.6"));
	uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
	if (vdso) {
		unsigned id = modules_find(vdso + 0x800);
		CHECK(id && modules_get(id)->flags == MLF_MODULE_VDSO);
	}
	CHECK_EQUAL(modules_find(0), 0);
	CHECK_EQUAL(modules_find(1), 0);
	CHECK_EQUAL(modules_find(UINTPTR_MAX), 0);
	CHECK_EQUAL(modules_find((uintptr_t)&main_id), 0);
	CHECK_EQUAL(modules_get(0)->state, MODULE_EMPTY);
	CHECK_EQUAL(modules_get(99999)->state, MODULE_EMPTY);
}

static void test_reload(void)
{
	build("a.so", 100, "-Wl,--build-id");
	build("b.so", 200, "-Wl,--build-id");
	struct loaded a = load("a.so");
	unsigned id = modules_find(a.call);
	CHECK(id && ends_with(modules_get(id)->path, "/a.so"));
	CHECK_EQUAL(modules_get(id)->image.build_id_bytes, 20);

	uint64_t before = modules_generation();
	unload(a);
	CHECK(modules_generation() > before);
	CHECK_EQUAL(modules_find(a.call), 0);

	struct loaded again = load("a.so");
	CHECK_EQUAL(again.base, a.base); // else this test shows nothing
	CHECK_EQUAL(modules_find(again.call), id);
	unload(again);

	struct loaded b = load("b.so");
	CHECK_EQUAL(b.base, a.base);
	unsigned other = modules_find(b.call);
	CHECK(other && other != id && ends_with(modules_get(other)->path, "/b.so"));
	CHECK(ends_with(modules_get(id)->path, "/a.so"));
	unload(b);

	// The same path with other contents.
	build("a.so", 300, "-Wl,--build-id");
	struct loaded changed = load("a.so");
	CHECK_EQUAL(changed.base, a.base);
	unsigned new_id = modules_find(changed.call);
	CHECK(new_id && new_id != id && new_id != other);
	unload(changed);
}

// Nobody tells us about the unload: refreshing notices, or the next object in that place does.
static void test_unseen_unload(void)
{
	struct loaded b = load("b.so");
	unsigned id = modules_find(b.call);
	uint64_t generation = modules_generation();
	dlclose(b.handle);
	modules_refresh();
	CHECK(modules_generation() > generation);

	b = load("b.so");
	CHECK_EQUAL(modules_find(b.call), id);
	generation = modules_generation();
	dlclose(b.handle);
	struct loaded a = load("a.so");
	unsigned other = modules_find(a.call);
	CHECK(other != id);
	CHECK(modules_generation() > generation);
	CHECK_EQUAL(modules_find(a.call), other);
	unload(a);
}

static uint64_t walked[16];
static unsigned walked_count;
static enum unwind_end walked_end;
__attribute__((noinline)) static void walk(void)
{
	struct registers here = REGISTERS_OF_CALLER();
	uint64_t hash;
	walked_count = unwind(&here, unwind_thread_bounds(here.sp), walked, 16, &hash, &walked_end);
}

// A cached rule of one object must not be used for the next one in the same place.
static void test_rules_of_reloaded_code(void)
{
	static const char *const flags[2] = {"-fomit-frame-pointer", "-fno-omit-frame-pointer -mstackrealign"};
	build("c.so", 100, flags[0]);
	build("d.so", 100, flags[1]);
	for (unsigned round = 0; round < 20; round++) {
		struct loaded code = load(round % 2 ? "c.so" : "d.so");
		((void (*)(void (*)(void)))code.call)(walk);
		CHECK_EQUAL(walked_end, UNWIND_COMPLETE);
		CHECK(walked_count >= 4);
		uintptr_t pc = modules_base(walked[0] >> MLF_FRAME_MODULE_SHIFT) + (walked[0] & MLF_FRAME_VADDR_MASK);
		CHECK(pc - code.call < 100);
		CHECK(ends_with(modules_get(walked[0] >> MLF_FRAME_MODULE_SHIFT)->path, round % 2 ? "/c.so" : "/d.so"));
		unload(code);
	}
}

// Threads meet new objects at once: one id each, whoever comes first.
static struct loaded shared;
static pthread_barrier_t barrier;
static unsigned found[4];
static void *meet(void *argument)
{
	unsigned self = (unsigned)(uintptr_t)argument;
	for (unsigned round = 0; round < 50; round++) {
		pthread_barrier_wait(&barrier);
		found[self] = modules_find(shared.call);
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

static void test_threads_meet(void)
{
	char name[16], from[64], to[64];
	pthread_t threads[4];
	pthread_barrier_init(&barrier, NULL, 5);
	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, meet, (void *)i);
	unsigned last = 0;
	for (unsigned round = 0; round < 50; round++) {
		snprintf(name, sizeof name, "e%u.so", round % 100);
		snprintf(from, sizeof from, "%s/b.so", directory);
		snprintf(to, sizeof to, "%s/%s", directory, name);
		CHECK_EQUAL(link(from, to), 0);
		shared = load(name);
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		CHECK(found[0] && found[0] == found[1] && found[0] == found[2] && found[0] == found[3]);
		CHECK(found[0] != last);
		last = found[0];
		unload(shared);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK(modules_count() < 100);
}

// Walks go on in other threads while objects come and go.
static uint32_t stopping;
static uint64_t walks;
static void *walk_on(void *unused)
{
	(void)unused;
	uint64_t frames[16], hash;
	while (!load_relaxed(&stopping)) {
		struct registers here = REGISTERS_OF_CALLER();
		enum unwind_end end;
		unsigned count = unwind(&here, unwind_thread_bounds(here.sp), frames, 16, &hash, &end);
		// Without the loader's help a walk may meet an old snapshot and stop short.
		if (!(count >= 2 && end == UNWIND_COMPLETE) && !own_snapshot)
			CHECK(false);
		add_relaxed(&walks, 1);
	}
	return NULL;
}

static void test_storm(void)
{
	pthread_t threads[2];
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, walk_on, NULL);
	for (unsigned round = 0; round < 300; round++) {
		struct loaded code = load(round % 3 ? "c.so" : "d.so");
		((void (*)(void (*)(void)))code.call)(walk);
		CHECK(walked_end == UNWIND_COMPLETE);
		if (round % 2)
			modules_refresh();
		unload(code);
	}
	store_relaxed(&stopping, 1);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK(walks > 100);
}

// A name given relative to the directory we started in is kept with that directory.
static void test_relative_name(void)
{
	build("f.so", 100, "");
	CHECK_EQUAL(chdir(directory), 0);
	void *handle = dlopen("./f.so", RTLD_NOW);
	CHECK(handle != NULL);
	if (own_snapshot)
		modules_refresh();
	unsigned id = modules_find((uintptr_t)dlsym(handle, "call"));
	char path[64];
	snprintf(path, sizeof path, "%s/./f.so", directory);
	CHECK(id && strcmp(modules_get(id)->path, path) == 0);
	modules_note_unload();
	CHECK_EQUAL(modules_find((uintptr_t)dlsym(handle, "call")), id);
	dlclose(handle);
}

static void test_full(void)
{
	// Beyond the table: unknown, and nothing else changes.
	unsigned known = modules_find((uintptr_t)test_full);
	CHECK_EQUAL(known, modules_find((uintptr_t)test_storm));
	CHECK(modules_count() <= MODULES_MAX);
}

int main(int argc, char **argv)
{
	if (argc == 1)
		run_own_snapshot(argv[0]);

	own_snapshot = argument_given(argc, argv, "--own-snapshot");
	CHECK(mkdtemp(directory) != NULL);
	CHECK_EQUAL(chdir(directory), 0);
	modules_init(own_snapshot);
	unwind_init();
	test_known_objects();
	test_reload();
	test_unseen_unload();
	test_rules_of_reloaded_code();
	test_threads_meet();
	test_storm();
	test_relative_name();
	test_full();
	modules_refresh();
	char command[256];
	snprintf(command, sizeof command, "rm -rf %s", directory);
	CHECK_EQUAL(system(command), 0);
	return harness_end();
}
