// test_catalog.c -- module and thread records: whole, once, and numbered without a gap
#include "fixture.h"

#include "catalog.h"
#include "modules.h"
#include "boot.h"
#include "stats.h"

#include <dlfcn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const struct mlf_module *module_record(unsigned id)
{
	return (const struct mlf_module *)(const void *)recording_segment(MLF_KIND_MODULES, 0)->base + (id - 1);
}

static const struct mlf_thread *thread_record(unsigned id)
{
	uint32_t capacity = 64;
	for (unsigned order = 0, index = id - 1;; order++, index -= capacity, capacity *= 2)
		if (index < capacity)
			return (const struct mlf_thread *)(const void *)recording_segment(MLF_KIND_THREADS, order)->base + index;
}

// ---- modules -----------------------------------------------------------------------------------------------

static void check_module(void *function, uint32_t flags)
{
	Dl_info info;
	CHECK(dladdr(function, &info));
	unsigned id = modules_find((uintptr_t)function);
	CHECK(id != 0);
	CHECK_EQUAL(module_record(id)->state, 0);
	catalog_module(id);
	const struct mlf_module *m = module_record(id);
	const struct mlf_string *path = recording_at(m->path);
	CHECK_EQUAL(m->state, 2);
	CHECK_EQUAL(m->flags, flags);
	char real[1024] = "", stored[1024] = "";
	size_t length = path->record.bytes - sizeof(path->record);
	CHECK(path->record.kind == MLF_RECORD_STRING && length < sizeof(stored));
	memcpy(stored, path->text, length);
	CHECK(realpath(flags & MLF_MODULE_MAIN ? "/proc/self/exe" : info.dli_fname, real) != NULL);
	char stored_real[1024] = "";
	CHECK(realpath(stored, stored_real) && strcmp(real, stored_real) == 0);
	uintptr_t vaddr = (uintptr_t)function - (uintptr_t)info.dli_fbase;
	CHECK(vaddr >= m->vaddr_low && vaddr < m->vaddr_high && m->loaded_cs != 0);
	const struct elf_image *image = &modules_get(id)->image;
	CHECK(m->build_id_bytes == image->build_id_bytes && memcmp(m->build_id, image->build_id, m->build_id_bytes) == 0);
	struct mlf_module before = *m;
	uint64_t used = recording.header->room_used;
	catalog_module(id);
	CHECK(memcmp(&before, m, sizeof(before)) == 0 && recording.header->room_used == used);
}

static void test_modules(void)
{
	check_module((void *)&catalog_module, MLF_MODULE_MAIN | MLF_MODULE_CORE);
	check_module(dlsym(RTLD_DEFAULT, "qsort"), 0);
	catalog_module(0);
	CHECK_EQUAL(stats_value(MLF_COUNTER_module_full), 0);
}

// The room is full when a module is met: the record stands, and its name is stored once there is room again.
static void test_name_comes_later(bool by_chores)
{
	const char *directory = temporary_directory(), *why = NULL;
	struct recording_options options = fixture_options(directory, 1U << 20);
	CHECK(recording_open(&options, &why) && !recording.is_private);
	while (recording_take(16, 16))
		;
	unsigned id = modules_find((uintptr_t)dlsym(RTLD_DEFAULT, "qsort"));
	uint64_t full = stats_value(MLF_COUNTER_module_full);
	catalog_module(id);
	CHECK(module_record(id)->state == 2 && module_record(id)->path == 0 && module_record(id)->build_id_bytes != 0);
	CHECK_EQUAL(stats_value(MLF_COUNTER_module_full), full + 1);
	CHECK(recording_grow());
	if (by_chores)
		catalog_name_modules();
	else
		catalog_module(id);
	const struct mlf_string *path = recording_at(module_record(id)->path);
	CHECK(module_record(id)->path != 0 && path->record.kind == MLF_RECORD_STRING &&
	      memcmp(path->text, modules_get(id)->path, path->record.bytes - sizeof(path->record)) == 0);
	uint64_t used = recording.header->room_used;
	catalog_name_modules();
	catalog_module(id);
	CHECK_EQUAL(recording.header->room_used, used);
	CHECK_EQUAL(stats_value(MLF_COUNTER_module_full), full + 1);
	remove_directory(directory);
}

static uint64_t frame_of(uintptr_t pc)
{
	unsigned id = modules_find(pc);
	return (uint64_t)id << MLF_FRAME_MODULE_SHIFT | (pc - modules_base(id));
}

static void test_plumbing(void)
{
	CHECK(catalog_is_plumbing(frame_of((uintptr_t)&catalog_module + 1))); // our own code
	CHECK(!catalog_is_plumbing(0));
	void *library = dlopen("libstdc++.so.6", RTLD_NOW);
	if (!library)
		return; // no C++ on this machine: no operator new either
	modules_refresh();
	uintptr_t at = (uintptr_t)dlsym(library, "_Znwm");
	catalog_module(modules_find(at));
	CHECK(!catalog_is_plumbing(frame_of(at))); // a return address cannot be its first byte
	CHECK(catalog_is_plumbing(frame_of(at + 1)));
	CHECK(!catalog_is_plumbing(frame_of((uintptr_t)dlsym(library, "_ZSt9terminatev") + 4)));
	CHECK(!catalog_is_plumbing(frame_of((uintptr_t)dlsym(RTLD_DEFAULT, "qsort") + 4)));
}

// ---- threads -----------------------------------------------------------------------------------------------

#define RACERS 8
static pthread_barrier_t barrier;
static uint32_t ids[RACERS];
static uint64_t wrong_ids;

static void *number_again(void *number)
{
	for (int round = 0; round < 300; round++) {
		pthread_barrier_wait(&barrier);
		if (!number)
			open_private(1U << 20);
		pthread_barrier_wait(&barrier);
		ids[(uintptr_t)number] = catalog_thread(3);
		if (catalog_thread(4) != ids[(uintptr_t)number])
			add_relaxed(&wrong_ids, 1);
		pthread_barrier_wait(&barrier);
		unsigned seen = 0;
		for (unsigned i = 0; !number && i < RACERS; i++)
			seen |= 1U << ids[i];
		if (!number && seen != (1U << (RACERS + 1)) - 2) // 1 to 8, each once
			add_relaxed(&wrong_ids, 1);
		const struct mlf_thread *t = thread_record(ids[(uintptr_t)number] ? ids[(uintptr_t)number] : 1);
		if (t->state != 1 || t->tid != (uint32_t)syscall(SYS_gettid) || t->first_cs != 3)
			add_relaxed(&wrong_ids, 1);
	}
	return NULL;
}

static void test_numbers_begin_anew(void)
{
	pthread_barrier_init(&barrier, NULL, RACERS);
	in_threads(RACERS, number_again);
	CHECK_EQUAL(wrong_ids, 0);
}

static void *one_thread(void *unused)
{
	catalog_thread(9);
	return unused;
}

static void test_table_full(void)
{
	open_private(1U << 20);
	for (unsigned i = 0; i < 1200; i++)
		in_threads(1, one_thread);
	CHECK_EQUAL(stats_value(MLF_COUNTER_thread_full), 1200 - (64 + 128 + 256 + 512));
	CHECK_EQUAL(catalog_thread(9), 0);
}

static void test_names(void)
{
	open_private(1U << 20);
	prctl(PR_SET_NAME, "fifteen letters");
	uint32_t id = catalog_thread(5);
	in_threads(1, one_thread); // gone before it was named
	CHECK_EQUAL(thread_record(id)->name[0], 0);
	catalog_name_threads();
	CHECK(strcmp(thread_record(id)->name, "fifteen letters") == 0);
	prctl(PR_SET_NAME, "other");
	catalog_name_threads();
	CHECK(strcmp(thread_record(id)->name, "fifteen letters") == 0);
	CHECK_EQUAL(thread_record(id + 1)->name[0], 0);
}

static void *last_samples(void *unused)
{
	uint32_t id = catalog_thread(5);
	catalog_note_sample(id, 111, 6);
	catalog_note_sample(id, 222, 7);
	const struct mlf_thread *record = thread_record(id);
	CHECK(record->last_row == 222 && record->last_cs == 7 && record->samples == 2 && record->first_cs == 5);
	return unused;
}

static void test_last_samples(void)
{
	open_private(1U << 20);
	for (unsigned i = 0; i < 200; i++) // in segments 0 to 2
		in_threads(1, last_samples);
	uint64_t used = recording.header->room_used;
	catalog_note_sample(0, 333, 8); // the table is full for it
	CHECK_EQUAL(recording.header->room_used, used);
}

int main(void)
{
	open_private(1U << 20);
	boot();
	test_modules();
	test_plumbing();
	test_name_comes_later(false);
	test_name_comes_later(true);
	test_names();
	test_last_samples();
	test_table_full();
	test_numbers_begin_anew();
	return harness_end();
}
