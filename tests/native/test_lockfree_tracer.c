// test_lockfree_tracer.c -- a thread stopped at any atomic step of a whole sampled call stops no other
//
//     test_lockfree_tracer [--long]
//
// As test_lockfree.c, one layer up: entering and leaving, backtrace, modules and threads as the catalog takes them in,
// tables, mappings. The seven others sample from their own places meanwhile, through the modules that the victim is adding.
#include "traced.h"
#include "stepping.h"

#include "mappings.h"
#include "catalog.h"
#include "modules.h"

#define VICTIM_LOW 0x00C0DE00U // the bit that the victim's address and an eighth of the others' share
#define VICTIM_MAPPING ((void *)0x560000000000)
#define MAPPING_BYTES (256U << 10)

static void *victim_address(void) { return aliasing(VICTIM_LOW, 60000); }

static NOINLINE void sample(void *address, size_t size_bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	tracer_allocated(address, size_bytes, SAMPLER_WEIGHT_ONE, MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, &caller);
}

static NOINLINE void sample_deeper(unsigned depth, void *address)
{
	if (depth)
		sample_deeper(depth - 1, address);
	else
		sample(address, 64);
	__asm__ volatile(""); // no tail call
}

static NOINLINE void map(void *start)
{
	struct registers caller = REGISTERS_OF_CALLER();
	tracer_mapped(start, MAPPING_BYTES, &caller);
}

static void unmap(void *start, size_t bytes)
{
	struct mappings_cut out;
	tracer_unmapping(start, bytes, &out);
}

// ---- the victim's operations ---------------------------------------------------------------------------

static void allocate(void) { sample(victim_address(), 100); }
static void release(void) { tracer_freeing(victim_address(), MLF_LAYER_MALLOC); }

static NOINLINE void reallocate(void)
{
	struct registers caller = REGISTERS_OF_CALLER();
	struct tracer_moving moving;
	tracer_moving(victim_address(), MLF_LAYER_MALLOC, &moving);
	tracer_moved(&moving, victim_address(), 300, SAMPLER_WEIGHT_ONE, MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, &caller);
}

static void map_victim(void) { map(VICTIM_MAPPING); }
static void cut_mapping(void) { unmap((char *)VICTIM_MAPPING + PAGE_BYTES, PAGE_BYTES); } // one becomes two

static void fill_threads(void) // those of the one segment there is
{
	for (unsigned i = 0; i < 64; i++) {
		sampler_self.recording = 0; // a thread that was never seen
		catalog_thread(1);
	}
}

static const struct operation operations[] = {
    {"the first sampled allocation, modules and all", {0}, allocate, NULL, 20},
    {"sampled allocation, new segment of threads", {fill_threads}, allocate, NULL, 20},
    {"sampled free", {allocate}, release, NULL, 8},
    {"sampled realloc", {allocate}, reallocate, NULL, 16},
    {"mapping", {0}, map_victim, NULL, 16},
    {"mapping cut in two", {map_victim}, cut_mapping, NULL, 14},
};

// ---- the process under test ----------------------------------------------------------------------------

static uint64_t other_turn(unsigned me, uint64_t turn, uint64_t *random, uint64_t *failures)
{
	struct live_sample left;
	void *address = turn % 8 == 0 ? aliasing(VICTIM_LOW, me)
				      : (void *)(uintptr_t)(0x550000000000 + me * 0x1000000ULL + random_below(random, 4096) * 32);
	sample_deeper((unsigned)(turn % 11), address);
	bool dropped = !bitmap_test_hot(address);
	hooked_free(address);
	*failures += liveset_remove(address, MLF_LAYER_MALLOC, &left); // its bit was clear though it was there
	if (turn % 64 == 5) {
		void *start = (void *)(uintptr_t)(0x570000000000 + me * 0x100000000ULL);
		map(start);
		unmap(start, MAPPING_BYTES);
	}
	return dropped;
}

// Every module and thread there is a record of is whole, once all have come out.
static void check_catalog(void)
{
	const struct recording_table *table;
	unsigned modules = 0, threads = 0;
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_MODULES, order)); order++)
		for (uint32_t i = 0; i < table->capacity; i++) {
			const struct mlf_module *m = (const struct mlf_module *)(const void *)table->base + i;
			modules += m->state != 0;
			CHECK(m->state == 0 || (m->state == 2 && m->path != 0));
		}
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_THREADS, order)); order++)
		for (uint32_t i = 0; i < table->capacity; i++) {
			const struct mlf_thread *t = (const struct mlf_thread *)(const void *)table->base + i;
			threads += t->state == 1 && t->tid != 0;
		}
	CHECK(modules >= 2); // the program and the C library
	CHECK(threads + stats_value(MLF_COUNTER_thread_full) >= OTHERS + 1);
}

static _Noreturn void under_test(const struct operation *operation)
{
	const char *directory = temporary_directory(), *why = NULL;
	struct recording_options options = fixture_options(directory, RECORDING_START_BYTES);
	boot();
	CHECK(tracer_start(&options, false, &why));
	remove_directory(directory); // what is mapped stays
	run_threads(operation);
	bool maps = operation->run == map_victim || operation->run == cut_mapping, cut = operation->run == cut_mapping;
	unsigned held, wrong, live = count_live(&held, &wrong);
	CHECK_EQUAL(held, 0);
	CHECK(maps || wrong == 0); // a mapping has no bit
	CHECK_EQUAL(live, operation->run == release ? 0 : cut ? 2 : 1);
	struct totals sum = totals_of();
	CHECK_EQUAL(sum.row_samples, live);
	CHECK_EQUAL(sum.row_bytes, sum.live_bytes);
	CHECK_EQUAL(sum.live_bytes, operation->run == allocate     ? 100
				    : operation->run == reallocate ? 300
				    : maps                         ? MAPPING_BYTES - cut * PAGE_BYTES
								   : 0);
	CHECK_EQUAL(sum.lost, 0);
	CHECK_EQUAL(stats_value(MLF_COUNTER_samples) - stats_value(MLF_COUNTER_forgotten), live - cut);
	uint64_t no_room = stats_value(MLF_COUNTER_live_full) + stats_value(MLF_COUNTER_live_race);
	CHECK(no_room >= shared->dropped && no_room <= OTHERS * operations_each / 8 + OTHERS * operations_each / 100);
	CHECK_EQUAL(stats_value(MLF_COUNTER_stack_full) + stats_value(MLF_COUNTER_row_full) + stats_value(MLF_COUNTER_module_full), 0);
	check_catalog();
	// Everybody has left: another recording can be opened.
	tracer_stop(MLF_STATE_STOPPED);
	options.directory = temporary_directory();
	CHECK(tracer_start(&options, false, &why));
	remove_directory(options.directory);
	_exit(checks_failed ? 1 : 0);
}

int main(int argc, char **argv)
{
	operations_each = long_run(argc, argv) ? 200000 : 4000;
	step_through(operations, ARRAY_LEN(operations), under_test);
	return harness_end();
}
