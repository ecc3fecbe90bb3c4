// governor_driver.c -- a program whose governor changes the knobs all the time: what do its samples add up to?
//
//     governor_driver native|python RUNS CHANGES FIRST_SEED
//
// One line for each run: CALLS ESTIMATE CHANGES SAMPLES. Every change is decided at a sample, a few samples after the one
// before it: one window that cost four times what is allowed, then some that cost next to nothing.
// test_governor_bias.py compares the estimates with the calls.
#include "../native/traced.h"

#include "governor.h"
#include "stats.h"

#define LAW(min, max) ((uint64_t)(max) << 16 | (min))
#define SAMPLES_EACH 4
#define DEAR_NS 160000 // four times 1 % of the 4 ms that a window has at least

static uint32_t native_call(void) { return hooked_call(16); }
static uint32_t python_call(void) { return counter_pass_hot(&tracer_python) ? 0 : tracer_take_python(); }

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	bool of_python = strcmp(argv[1], "python") == 0;
	uint32_t (*call)(void) = of_python ? python_call : native_call;
	const char *directory = temporary_directory(), *why = NULL;
	struct registers caller = REGISTERS_OF_CALLER();
	boot();
	for (uint64_t run = 0, runs = strtoull(argv[2], NULL, 10), changes = strtoull(argv[3], NULL, 10); run < runs; run++) {
		struct recording_options options = fixture_options(directory, RECORDING_START_BYTES);
		options.seed = strtoull(argv[4], NULL, 10) + run;
		options.interval = of_python ? LAW(2000, 9999) : LAW(16, 256);
		options.python_interval = LAW(16, 256);
		options.sample_bytes = 0;
		options.budget_ppm = 10000;
		if (!tracer_start(&options, false, &why))
			return 1;
		struct mlf_header *header = recording.header;
		header->python_state = MLF_PYTHON_FRAMES; // its intervals count
		uint64_t calls = 0, estimate = 0, samples = 0, since = 0;
		while (header->governor_changes < changes) {
			calls++;
			uint32_t weight = call();
			if (!weight)
				continue;
			estimate += weight;
			samples++;
			bool is_due = governor.flip[of_python ? GOVERNOR_PYTHON : GOVERNOR_NATIVE] >> 63;
			if (!is_due && ++since % SAMPLES_EACH == 0) {
				header->own_cost_ns += header->widened_x1024 == GOVERNOR_ONE ? DEAR_NS : 0;
				governor.next_cs = 0; // the window ends with this very sample
			}
			void *block = (void *)(uintptr_t)(0x560000000000 + samples % 100 * 64);
			tracer_allocated(block, 16, weight, of_python ? MLF_LAYER_PYMEM : MLF_LAYER_MALLOC,
					 of_python ? MLF_DOMAIN_PYMALLOC_OBJ : MLF_DOMAIN_MALLOC, &caller);
			if (bitmap_test_hot(block))
				tracer_freeing(block, of_python ? MLF_LAYER_PYMEM : MLF_LAYER_MALLOC);
		}
		printf("%lu %.3f %lu %lu\n", calls, (double)estimate / 1024, header->governor_changes, samples);
		tracer_stop(MLF_STATE_STOPPED);
	}
	remove_directory(directory);
	return 0;
}
