// test_thinning.c -- a live set that is full goes on to say how much there is, and whose
//
//     test_thinning [--long | --short]
#include "liveset_check.h"

#include "samples.h"
#include "thinning.h"

#define ROOM (1U << 20)

static struct mlf_row *row_of(uint64_t number, enum mlf_domain domain)
{
	uint64_t frame[] = {11};
	struct rows_stack stack = {.frame = frame, .frames = 1, .hash = number * MLF_CHECK_1};
	return rows_of(&stack, domain, 1);
}

static void *block(uint64_t n) { return (void *)(uintptr_t)(0x550000000000 + n * 48); }

// As samples.c does it.
static bool sample(uint64_t n, enum mlf_layer layer, struct mlf_row *row, uint64_t size, uint32_t weight_x1024, uint32_t thread)
{
	struct liveset_place place;
	struct live_sample about = {
	    .size_bytes = size, .row = recording_ref(row), .weight_x1024 = weight_x1024, .born_cs = 1 + (uint32_t)n, .thread = thread};
	if (!thinning_insert(block(n), layer, &about, &place, 1))
		return false;
	rows_add(row, size, weight_x1024, 1);
	return true;
}

static bool forget(uint64_t n, enum mlf_layer layer)
{
	struct live_sample about;
	if (!liveset_remove(block(n), layer, &about))
		return false;
	rows_remove(recording_at(about.row), about.size_bytes, about.weight_x1024, 1);
	return true;
}

struct sums {
	unsigned samples;
	double bytes, blocks;
};

// What the samples of a row stand for; of all rows: NULL.
static struct sums live_of(const struct mlf_row *row)
{
	struct sums sums = {0, 0, 0};
	const struct recording_table *table;
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_LIVE, order)); order++) {
		const uint64_t *keys = (const uint64_t *)(const void *)table->base;
		const struct mlf_live *entries = (const struct mlf_live *)(const void *)(keys + table->capacity);
		for (uint32_t i = 0; i < table->capacity; i++)
			if ((keys[i] & MLF_LIVE_KEY_LIVE) && (!row || recording_at(entries[i].row) == row)) {
				sums.samples++;
				sums.bytes += (double)entries[i].size_bytes * entries[i].weight_x1024 / 1024;
				sums.blocks += entries[i].weight_x1024 / 1024.0;
			}
	}
	return sums;
}

static uint32_t heaviest_of(const struct mlf_row *row, uint32_t heaviest)
{
	const struct recording_table *table;
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_LIVE, order)); order++) {
		const uint64_t *keys = (const uint64_t *)(const void *)table->base;
		const struct mlf_live *entries = (const struct mlf_live *)(const void *)(keys + table->capacity);
		for (uint32_t i = 0; i < table->capacity; i++)
			if ((keys[i] & MLF_LIVE_KEY_LIVE) && recording_at(entries[i].row) == row && entries[i].weight_x1024 > heaviest)
				heaviest = entries[i].weight_x1024;
	}
	return heaviest;
}

static uint64_t held(const struct mlf_row *row) { return row->alloc_bytes - row->freed_bytes; }

// Nothing is lost of what there is in all, and rows say what the live set says.
static void test_all_is_kept(void)
{
	enum { N = 200000 };
	uint64_t full = stats_value(MLF_COUNTER_live_full), bytes = 0;
	unsigned held_slots, wrong;
	open_private(ROOM);
	struct mlf_row *row[] = {row_of(1, MLF_DOMAIN_MALLOC), row_of(2, MLF_DOMAIN_MALLOC), row_of(3, MLF_DOMAIN_PYMALLOC_OBJ)};
	uint64_t blocks_x1024[3] = {0, 0, 0}, bytes_of[3] = {0, 0, 0};
	for (uint64_t n = 0; n < N; n++) {
		uint64_t size = 1 + n % 700;
		uint32_t weight = 1024 * (1 + n % 200);
		CHECK(sample(n, n % 3 == 2 ? MLF_LAYER_PYMEM : MLF_LAYER_MALLOC, row[n % 3], size, weight, 0));
		bytes += size * weight / 1024;
		bytes_of[n % 3] += size * weight / 1024;
		blocks_x1024[n % 3] += weight;
	}
	struct sums all = live_of(NULL);
	CHECK(all.samples > 5000 && all.samples < 26000);
	CHECK_EQUAL(stats_value(MLF_COUNTER_live_full), full);
	CHECK(stats_value(MLF_COUNTER_thinned) >= N - 26000);
	CHECK(fabs(all.bytes - (double)bytes) < 1e-3 * (double)bytes);
	CHECK_EQUAL(count_live(&held_slots, &wrong), all.samples);
	CHECK_EQUAL(held_slots + wrong, 0);
	for (unsigned i = 0; i < 3; i++) {
		struct sums of = live_of(row[i]);
		CHECK(fabs(of.bytes - (double)held(row[i])) <= of.samples); // each is rounded to a byte
		CHECK_EQUAL(row[i]->alloc_bytes - row[i]->moved_bytes, bytes_of[i]); // totals do not notice
		CHECK_EQUAL(row[i]->alloc_count_x1024 - row[i]->moved_count_x1024, blocks_x1024[i]);
		CHECK_EQUAL(row[i]->alloc_samples, N / 3 + (i < N % 3));
		CHECK_EQUAL(row[i]->freed_samples, 0); // by the program
		CHECK_EQUAL(row[i]->alloc_count_x1024 - row[i]->freed_count_x1024, (uint64_t)(1024 * of.blocks + 0.5));
	}
	CHECK_EQUAL(rows_held_now().bytes, held(row[0]) + held(row[1]) + held(row[2]));
	uint64_t freed = 0;
	for (uint64_t n = 0; n < N; n++)
		freed += forget(n, n % 3 == 2 ? MLF_LAYER_PYMEM : MLF_LAYER_MALLOC);
	CHECK_EQUAL(freed, all.samples);
	CHECK_EQUAL(row[0]->freed_samples + row[1]->freed_samples + row[2]->freed_samples, freed);
	CHECK(rows_held_now().bytes == 0 && live_of(NULL).samples == 0);
	for (uint64_t n = 0; n < N; n++)
		CHECK(!bitmap_test_hot(block(n)));
}

// Old and new, small and large, rare and frequent: on average each of them is what it was, in bytes and in blocks.
static void test_nobody_pays(unsigned rounds)
{
	enum { KINDS = 4, N = 60000 };
	double bytes[KINDS][2] = {{0}}, blocks[KINDS][2] = {{0}}, true_bytes[KINDS], true_blocks[KINDS];
	for (unsigned round = 0; round < rounds; round++) {
		open_private(ROOM);
		sampler_seed(1000 + round);
		sampler_restart();
		struct mlf_row *row[KINDS];
		for (unsigned i = 0; i < KINDS; i++) {
			row[i] = row_of(10 + i, MLF_DOMAIN_MALLOC);
			true_bytes[i] = true_blocks[i] = 0;
		}
		for (uint64_t n = 0; n < N; n++) {
			// The first half of one kind, in the second some of three others; one in a thousand of the last.
			unsigned kind = n < N / 2 ? 0 : n % 1000 == 0 ? 3 : 1 + n % 2;
			uint64_t size = kind == 0 ? 100 : kind == 1 ? 64 + n % 32 : kind == 2 ? 2000 : 50000;
			uint32_t weight = kind == 1 ? 136 * 1024 : kind == 3 ? 1024 : 100 * 1024;
			CHECK(sample(n, MLF_LAYER_MALLOC, row[kind], size, weight, 0));
			true_bytes[kind] += (double)size * weight / 1024;
			true_blocks[kind] += weight / 1024.0;
		}
		for (unsigned i = 0; i < KINDS; i++) {
			struct sums of = live_of(row[i]);
			double off[] = {of.bytes / true_bytes[i] - 1, of.blocks / true_blocks[i] - 1};
			bytes[i][0] += off[0], bytes[i][1] += off[0] * off[0];
			blocks[i][0] += off[1], blocks[i][1] += off[1] * off[1];
		}
	}
	for (unsigned i = 0; i < KINDS; i++) {
		const double *sums[] = {bytes[i], blocks[i]};
		for (unsigned what = 0; what < 2; what++) {
			double mean = sums[what][0] / rounds, error = sqrt((sums[what][1] / rounds - mean * mean) / (rounds - 1));
			printf("kind %u %s: off by %+.4f +- %.4f\n", i, what ? "blocks" : "bytes", mean, error);
			CHECK(fabs(mean) < 4.5 * error + 1e-9 && error * sqrt(rounds) < 0.5);
		}
	}
}

// What may not be merged is not: a mapping, a pool's block with another pool's or with malloc's, what is very large.
static void test_kin(void)
{
	open_private(ROOM);
	struct mlf_row *mapping = row_of(20, MLF_DOMAIN_MMAP), *pool = row_of(21, MLF_POOL_DOMAIN + 1), *other = row_of(22, MLF_POOL_DOMAIN + 2),
		       *large = row_of(23, MLF_DOMAIN_MALLOC), *small = row_of(24, MLF_DOMAIN_MALLOC);
	uint64_t first = 0;
	for (; first < 3000; first++)
		CHECK(sample(first, MLF_LAYER_MMAP, mapping, 1, 1024, 0) && sample(first, MLF_LAYER_POOL, pool, 10, 2048, 1U << MLF_LIVE_POOL_SHIFT) &&
		      sample(first + 5000, MLF_LAYER_POOL, other, 10, 2048, 2U << MLF_LIVE_POOL_SHIFT));
	for (uint64_t n = 0; n < 200; n++)
		CHECK(sample(7000000 + n, MLF_LAYER_MALLOC, large, LIVESET_MERGED_BELOW, 1024, 0));
	uint64_t full = stats_value(MLF_COUNTER_live_full), dropped = 0;
	for (uint64_t n = 10000; n < 60000; n++)
		dropped += !sample(n, MLF_LAYER_MALLOC, small, 100, 1024, 0);
	CHECK_EQUAL(dropped, stats_value(MLF_COUNTER_live_full) - full);
	CHECK(dropped < 5000 && stats_value(MLF_COUNTER_thinned));
	struct sums of[] = {live_of(mapping), live_of(pool), live_of(other), live_of(large), live_of(small)};
	CHECK(of[0].samples == 3000 && of[0].bytes == 3000 && of[3].samples == 200);
	CHECK(fabs(of[1].bytes - 3000 * 20) < 30 && fabs(of[2].bytes - 3000 * 20) < 30);
	CHECK(fabs(of[4].bytes - 100.0 * (double)(50000 - dropped)) < 100);
	CHECK_EQUAL(rows_held_now().bytes, held(mapping) + held(large) + held(small));
}

// The only one of its kind in a window is no reason to drop what comes, however little it stands for.
static void test_alone_of_its_kind(void)
{
	open_private(ROOM);
	struct mlf_row *pool = row_of(50, MLF_POOL_DOMAIN + 1), *small = row_of(51, MLF_DOMAIN_MALLOC);
	uint64_t full = stats_value(MLF_COUNTER_live_full);
	for (uint32_t number = 1; number < 100; number++)
		for (uint64_t n = 0; n < 10; n++)
			CHECK(sample(1000 * number + n, MLF_LAYER_POOL, pool, 1, 1024, number << MLF_LIVE_POOL_SHIFT));
	for (uint64_t n = 200000; n < 300000; n++)
		CHECK(sample(n, MLF_LAYER_MALLOC, small, 100, 1024, 0));
	CHECK_EQUAL(stats_value(MLF_COUNTER_live_full), full);
	struct sums of[] = {live_of(pool), live_of(small)};
	printf("%u of 990 are still apart\n", of[0].samples);
	CHECK(of[0].samples > 100 && of[1].samples > 10000);
	CHECK(fabs(of[0].bytes - 990) < 1 && fabs(of[1].bytes - 100 * 100000) < 1000);
}

// Nothing and next to nothing beside what is large: a sample can stand for two million blocks, and these are more.
static void test_tiny_beside_large(unsigned rounds)
{
	enum { KINDS = 3, N = 120000 };
	static const uint64_t size[KINDS] = {0, 1, 15U << 20};
	double blocks[KINDS] = {0}, squares[KINDS] = {0};
	uint32_t heaviest = 0;
	for (unsigned round = 0; round < rounds; round++) {
		open_private(ROOM);
		sampler_seed(2000 + round);
		sampler_restart();
		struct mlf_row *row[KINDS];
		for (unsigned i = 0; i < KINDS; i++)
			row[i] = row_of(60 + i, MLF_DOMAIN_MALLOC);
		for (uint64_t n = 0; n < N; n++)
			CHECK(sample(n, MLF_LAYER_MALLOC, row[n % KINDS], size[n % KINDS], 1000 * 1024, 0));
		for (unsigned i = 0; i < KINDS; i++) {
			double found = live_of(row[i]).blocks / (1000.0 * N / KINDS) - 1;
			blocks[i] += found, squares[i] += found * found;
		}
		for (unsigned i = 0; i < KINDS; i++)
			heaviest = heaviest_of(row[i], heaviest);
	}
	for (unsigned i = 0; i < KINDS; i++) {
		double mean = blocks[i] / rounds, error = sqrt((squares[i] / rounds - mean * mean) / (rounds - 1));
		printf("%llu bytes, blocks: off by %+.4f +- %.4f\n", (unsigned long long)size[i], mean, error);
		CHECK(fabs(mean) < 4.5 * error + 1e-9 && error < 0.25);
	}
	CHECK(heaviest == LIVESET_WEIGHT_MAX);
}

// A room of mappings alone: what comes is dropped, and counted.
static void test_nothing_to_merge(void)
{
	open_private(ROOM);
	struct mlf_row *mapping = row_of(30, MLF_DOMAIN_MMAP);
	uint64_t full = stats_value(MLF_COUNTER_live_full), thinned = stats_value(MLF_COUNTER_thinned), n = 0;
	while (n < 100000 && sample(n, MLF_LAYER_MMAP, mapping, 1, 1024, 0))
		n++;
	CHECK(n > 5000 && n < 26000 && live_of(mapping).samples == n);
	CHECK(stats_value(MLF_COUNTER_live_full) == full + 1 && stats_value(MLF_COUNTER_thinned) == thinned);
}

// What it takes is part of what a sample costs, which the budget is spent on.
static void test_what_it_costs(void)
{
	open_private(ROOM);
	struct registers caller = REGISTERS_OF_CALLER();
	uint64_t plain = 0, dearer = 0;
	for (uint64_t n = 0; n < 30000; n++) {
		uint64_t cost = recording.header->own_cost_ns, thinned = stats_value(MLF_COUNTER_thinned);
		CHECK(samples_record(block(n), &(struct live_sample){.size_bytes = 100, .weight_x1024 = 1024}, MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC,
				     &caller, SAMPLES_OF_BUDGET));
		cost = recording.header->own_cost_ns - cost;
		thinned = stats_value(MLF_COUNTER_thinned) - thinned;
		plain = n ? plain : cost;
		CHECK_EQUAL(cost, plain + thinned * THINNING_NS * recording_segments(MLF_KIND_LIVE));
		dearer += thinned != 0;
	}
	CHECK(plain && dearer > 10000);
}

// ---- many threads ------------------------------------------------------------------------------------

struct churner {
	pthread_t thread;
	unsigned number;
	uint64_t operations;
};

static void *churn(void *argument)
{
	struct churner *self = argument;
	enum { BLOCKS = 12000 };
	struct mlf_row *row = row_of(40 + self->number, MLF_DOMAIN_MALLOC);
	uint8_t *live = calloc(BLOCKS, 1); // ours; what thinning took out is not known to us
	uint64_t state = self->number + 1;
	for (uint64_t i = 0; i < self->operations; i++) {
		uint64_t which = random_below(&state, BLOCKS), n = self->number * BLOCKS + which;
		if (live[which])
			forget(n, MLF_LAYER_MALLOC);
		else
			sample(n, MLF_LAYER_MALLOC, row, 1 + which % 3000, 2048, 0);
		live[which] ^= 1;
	}
	for (uint64_t which = 0; which < BLOCKS; which++)
		if (live[which] && which % 2)
			forget(self->number * BLOCKS + which, MLF_LAYER_MALLOC);
	free(live);
	return NULL;
}

static void test_threads(uint64_t operations)
{
	struct churner churner[4];
	unsigned held_slots, wrong;
	uint64_t sum = 0;
	open_private(ROOM);
	uint64_t thinned = stats_value(MLF_COUNTER_thinned);
	for (unsigned i = 0; i < ARRAY_LEN(churner); i++) {
		churner[i] = (struct churner){.number = i, .operations = operations};
		CHECK(pthread_create(&churner[i].thread, NULL, churn, &churner[i]) == 0);
	}
	for (unsigned i = 0; i < ARRAY_LEN(churner); i++)
		pthread_join(churner[i].thread, NULL);
	CHECK(stats_value(MLF_COUNTER_thinned) > thinned + operations / 50);
	CHECK(count_live(&held_slots, &wrong) > 1000);
	CHECK_EQUAL(held_slots + wrong, 0);
	for (unsigned i = 0; i < ARRAY_LEN(churner); i++) {
		const struct mlf_row *row = row_of(40 + i, MLF_DOMAIN_MALLOC);
		struct sums of = live_of(row);
		CHECK(fabs(of.bytes - (double)held(row)) <= of.samples);
		CHECK_EQUAL(row->alloc_count_x1024 - row->freed_count_x1024, (uint64_t)(1024 * of.blocks + 0.5));
		sum += held(row);
	}
	CHECK_EQUAL(rows_held_now().bytes, sum);
}

int main(int argc, char **argv)
{
	bool is_long = long_run(argc, argv), is_short = short_run(argc, argv);
	test_all_is_kept();
	test_nobody_pays(is_long ? 400 : is_short ? 10 : 40);
	test_kin();
	test_alone_of_its_kind();
	test_tiny_beside_large(is_long ? 200 : is_short ? 12 : 40);
	test_nothing_to_merge();
	test_what_it_costs();
	test_threads(is_long ? 5000000 : is_short ? 100000 : 500000);
	return harness_end();
}
