// traced.h -- the tracer, driven as the hooks drive it, with no hook in place
#ifndef TRACED_H
#define TRACED_H

#include "liveset_check.h"

#include "boot.h"
#include "tracer.h"
#include "tracer_child.h"
#include "tracer_gate.h"
#include "tracer_knobs.h"
#include "tracer_probe.h"
#include "tracer_start.h"
#include "tracer_take.h"
#include "tracer_upkeep.h"

#include <sys/wait.h>

static inline void start_tracing(const char *directory, uint64_t interval, bool follow_fork)
{
	const char *why = NULL;
	struct recording_options options = fixture_options(directory, RECORDING_START_BYTES);
	options.interval = interval;
	boot();
	CHECK(tracer_start(&options, follow_fork, &why));
	CHECK(!recording.is_private);
}

// What a hook does before the real call; the weight.
static inline uint32_t hooked_call(size_t size_bytes)
{
	return sampler_pass_hot(size_bytes) || tracer_look_hot(size_bytes) ? 0 : tracer_take(size_bytes);
}

static inline void hooked_malloc(void *address, size_t size_bytes)
{
	struct registers caller = REGISTERS_OF_CALLER();
	uint32_t weight = hooked_call(size_bytes);
	if (weight)
		tracer_allocated(address, size_bytes, weight, MLF_LAYER_MALLOC, MLF_DOMAIN_MALLOC, &caller);
}

static inline void hooked_free(void *address)
{
	if (bitmap_test_hot(address))
		tracer_freeing(address, MLF_LAYER_MALLOC);
}

struct totals {
	uint64_t live, live_bytes; // of the live set
	uint64_t row_samples, row_bytes; // allocated minus freed, of all rows
	uint64_t lost;
};

static inline struct totals totals_of(void)
{
	struct totals sum = {0};
	const struct recording_table *table;
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_LIVE, order)); order++) {
		const uint64_t *keys = (const uint64_t *)(const void *)table->base;
		const struct mlf_live *entries = (const struct mlf_live *)(const void *)(keys + table->capacity);
		for (uint32_t i = 0; i < table->capacity; i++)
			if (keys[i] & MLF_LIVE_KEY_LIVE) {
				sum.live++;
				sum.live_bytes += entries[i].size_bytes;
			}
	}
	for (unsigned order = 0; (table = recording_segment(MLF_KIND_ROW_INDEX, order)); order++) {
		const uint64_t *words = (const uint64_t *)(const void *)table->base;
		for (uint32_t i = 0; i < table->capacity; i++) {
			const struct mlf_row *row = words[i] ? recording_at((uint32_t)words[i]) : NULL;
			if (!row)
				continue;
			sum.row_samples += row->alloc_samples - row->freed_samples;
			sum.row_bytes += row->alloc_bytes - row->freed_bytes;
			sum.lost += row->lost_samples;
		}
	}
	return sum;
}

// Runs `body` in a forked child and takes its failed checks for ours.
static inline void in_child(void (*body)(void))
{
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		checks_failed = 0;
		body();
		_exit(checks_failed ? 1 : 0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif
