// governor.c -- what sampling may cost, and the knobs that keep to it
//
// Context:   sampled; governor_begin(), governor_end() and governor_poll() are cold.
// Invariant: the effective words are widened from requests that were valid, never denser, and carry the epoch of their
//            request. Nobody waits for anybody: whoever finds another deciding goes on. Two that store the words at the same
//            time may leave those of the older request or factor; the first look that sees so, or the next window, stores
//            them anew.
// Why:       a change is decided on what was sampled. Were it made there, the law of the calls behind would depend on
//            what was drawn: each change would add a third of a sample to the estimates. So it is made some greatest
//            intervals later, counted in calls of the thread whose sample it was, when that is forgotten.
// Proof:     tests/native/test_governor.c; tests/statistical/test_governor_bias.py; tests/integration/test_governor.py
#include "governor.h"

#include "clock.h"
#include "stats.h"

#define LOOK (1ULL << 63)         // in flip: matches nothing, so every look comes here
#define OVERDUE_NS 250000000U     // the thread that was to make a change makes no calls: somebody else does
#define RATIO_MAX_X1024 (1U << 30)
#define CPU_LEAST_X1024 64U       // a sixteenth of a CPU
#define CPU_VALID_NS 3000000000U
#define ELAPSED_MAX_NS 60000000000U
#define SPENT_MAX_NS 1000000000000U
#define SECOND_NS 1000000000U

struct governor governor;

static uint32_t factor_x1024 = GOVERNOR_ONE;
static uint32_t deciding; // 1: some thread is in decide()
static uint64_t window_cost_ns, window_ns;
static uint64_t budget_ppm; // the last good one

// A change is due: whose sample it was, and how many looks of 64 calls that one still has to make.
static uint32_t is_due;
static uint64_t due_ns;
static const void *due_who;
static enum governor_stream due_stream;
static uint32_t due_looks;

// ---- laws ----------------------------------------------------------------------------------------

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

static uint32_t law_min(uint64_t law) { return (uint16_t)law; }
static uint32_t law_max(uint64_t law) { return (uint16_t)(law >> 16); }
static bool is_governed(uint64_t law) { return (uint32_t)law != SAMPLER_OFF && (uint32_t)law != SAMPLER_FULL; }

static uint32_t times(uint32_t interval, uint32_t factor, uint32_t most)
{
	uint64_t wide = (uint64_t)interval * factor / GOVERNOR_ONE;
	if (wide > most)
		wide = most;
	return wide > interval ? (uint32_t)wide : interval;
}

uint64_t governor_widen(uint64_t interval, uint32_t factor)
{
	if (!is_governed(interval))
		return interval;
	uint32_t min = law_min(interval), max = law_max(interval);
	uint32_t wide_max = times(max, factor, GOVERNOR_MAX_INTERVAL);
	// The standard error is conservative while max >= 8 x min. And of a pair up to 10000 both would be off.
	uint32_t wide_min = times(min, factor, max >= 8 * min ? wide_max / 8 : (uint32_t)least(wide_max, GOVERNOR_MAX_INTERVAL));
	return interval >> 32 << 32 | (uint64_t)wide_max << 16 | wide_min;
}

uint64_t governor_widen_bytes(uint64_t sample_bytes, uint64_t interval, uint64_t widened)
{
	uint64_t sum = law_min(interval) + law_max(interval), wide_sum = law_min(widened) + law_max(widened);
	if (wide_sum <= sum)
		return sample_bytes;
	uint64_t whole;
	if (__builtin_mul_overflow(sample_bytes / sum, wide_sum, &whole))
		return UINT64_MAX; // a mean from outside
	uint64_t wide = whole + sample_bytes % sum * wide_sum / sum;
	return wide >= whole ? wide : UINT64_MAX;
}

uint32_t governor_factor_max(uint64_t interval)
{
	uint32_t max = law_max(interval);
	if (!is_governed(interval) || max >= GOVERNOR_MAX_INTERVAL)
		return GOVERNOR_ONE;
	return (GOVERNOR_MAX_INTERVAL * GOVERNOR_ONE + max - 1) / max;
}

// ---- one window ------------------------------------------------------------------------------------

uint64_t governor_allowed_ns(const struct governor_window *w)
{
	return least(w->elapsed_ns, ELAPSED_MAX_NS) * w->budget_ppm / MLF_BUDGET_PPM_MAX * w->cpu_x1024 >> 10;
}

uint32_t governor_factor(uint32_t factor, uint32_t greatest, const struct governor_window *w, bool *over)
{
	*over = false;
	if (w->budget_ppm == 0)
		return GOVERNOR_ONE;
	uint64_t allowed = most(governor_allowed_ns(w), 1), spent = least(w->spent_ns, SPENT_MAX_NS);
	// What would cost nine tenths of what is allowed.
	uint64_t wanted = factor * least((spent << 10) / allowed, RATIO_MAX_X1024) / 1024 * 10 / 9;
	if (wanted < factor) { // by halves, one each second
		uint64_t seconds = w->elapsed_ns / SECOND_NS;
		wanted = most(wanted, factor >> (seconds < 1 ? 1 : seconds < 16 ? seconds : 16));
	}
	wanted = most(wanted, GOVERNOR_ONE);
	*over = spent > allowed && wanted > greatest;
	wanted = least(wanted, greatest);
	uint64_t difference = wanted > factor ? wanted - factor : factor - wanted;
	bool is_end = wanted == GOVERNOR_ONE || wanted == greatest;
	return difference * 10 < factor && !is_end ? factor : (uint32_t)wanted;
}

// ---- the words in force ------------------------------------------------------------------------------

// Both pairs, from what was adopted and the factor. Relaxed: each call's weight is computed from what its thread adopted.
static bool publish(struct mlf_header *header)
{
	uint32_t factor = load_relaxed(&factor_x1024);
	uint64_t native = load_relaxed(&governor.adopted[GOVERNOR_NATIVE]), python = load_relaxed(&governor.adopted[GOVERNOR_PYTHON]);
	uint64_t bytes = load_relaxed(&governor.adopted_bytes);
	uint64_t wide = governor_widen(native, factor), wide_python = governor_widen(python, factor);
	bool changed = load_relaxed(&header->effective) != wide || load_relaxed(&header->python_effective) != wide_python;
	// The mean before the pair: whoever sees the new pair sees it too. It never changes alone.
	store_relaxed(&header->effective_sample_bytes, governor_widen_bytes(bytes, native, wide));
	store_relaxed(&header->effective, wide);
	store_relaxed(&header->python_effective, wide_python);
	uint64_t look = load_relaxed(&is_due) ? LOOK : 0;
	store_relaxed(&governor.flip[GOVERNOR_NATIVE], (native ^ wide) | look);
	store_relaxed(&governor.flip[GOVERNOR_PYTHON], (python ^ wide_python) | look);
	return changed;
}

// The words come from outside (`memleak set`): believe nothing. A bad one becomes what was adopted last, unless another
// request has come meanwhile: that one is looked at next time.
static void adopt(struct mlf_header *header, enum governor_stream stream, uint64_t *word, uint64_t requested)
{
	uint64_t before = load_relaxed(&governor.adopted[stream]), bytes = load_relaxed(&header->requested_sample_bytes);
	bool is_native = stream == GOVERNOR_NATIVE;
	if (!sampler_interval_valid(requested) || (is_native && bytes != 0 && bytes < 4096)) {
		if (cas_relaxed(word, &requested, before)) {
			count(knobs_rejected);
			if (is_native)
				store_relaxed(&header->requested_sample_bytes, load_relaxed(&governor.adopted_bytes));
		}
		return;
	}
	if (is_native)
		store_relaxed(&governor.adopted_bytes, bytes);
	store_relaxed(&governor.adopted[stream], requested);
	publish(header);
}

// ---- decisions -------------------------------------------------------------------------------------

static uint64_t cpu_ns, cpu_at_ns; // when it was looked at last; 0: never
static uint32_t cpu_x1024;

static uint32_t cpu_used(uint64_t now_ns)
{
	uint64_t at = load_relaxed(&cpu_at_ns);
	return at && now_ns - at < CPU_VALID_NS ? load_relaxed(&cpu_x1024) : 1024; // one CPU, where nobody looks
}

static void begin_window(struct mlf_header *header, uint64_t now_ns)
{
	uint64_t cost = load_relaxed(&header->own_cost_ns), budget = load_relaxed(&budget_ppm);
	struct governor_window w = {0, GOVERNOR_WINDOW_NS, (uint32_t)budget, cpu_used(now_ns)};
	uint64_t worth = most(governor_allowed_ns(&w), GOVERNOR_WINDOW_SAMPLES * (uint64_t)load_relaxed(&header->sample_cost_ns));
	store_relaxed(&window_cost_ns, cost);
	store_relaxed(&window_ns, now_ns);
	store_relaxed(&governor.next_cs, clock_now_cs() + GOVERNOR_WINDOW_CS);
	store_relaxed(&governor.next_cost_ns, budget ? cost + worth : UINT64_MAX);
}

static bool counts_python(const struct mlf_header *header) { return load_relaxed(&header->python_state) == MLF_PYTHON_FRAMES; }

// Is there anything that wider intervals would save? Not while a pair is full: what that costs is not to be saved elsewhere.
static bool governs(const struct mlf_header *header)
{
	uint64_t native = load_relaxed(&governor.adopted[GOVERNOR_NATIVE]), python = load_relaxed(&governor.adopted[GOVERNOR_PYTHON]);
	if (!counts_python(header))
		return is_governed(native);
	return (uint32_t)native != SAMPLER_FULL && (uint32_t)python != SAMPLER_FULL && (is_governed(native) || is_governed(python));
}

static uint32_t greatest_factor(const struct mlf_header *header)
{
	if (!governs(header))
		return GOVERNOR_ONE;
	uint32_t of_native = governor_factor_max(load_relaxed(&governor.adopted[GOVERNOR_NATIVE]));
	uint32_t of_python = governor_factor_max(load_relaxed(&governor.adopted[GOVERNOR_PYTHON]));
	return counts_python(header) ? (uint32_t)most(of_native, of_python) : of_native;
}

static void note_budget(struct mlf_header *header)
{
	uint64_t asked = load_relaxed(&header->budget_ppm), before = load_relaxed(&budget_ppm);
	if (asked <= MLF_BUDGET_PPM_MAX)
		store_relaxed(&budget_ppm, asked);
	else if (cas_relaxed(&header->budget_ppm, &asked, before)) // as adopt()
		count(knobs_rejected);
}

static void note_state(struct mlf_header *header, bool over)
{
	bool wider = load_relaxed(&factor_x1024) > GOVERNOR_ONE;
	enum mlf_governor state = over ? MLF_GOVERNOR_WIDEST : wider ? MLF_GOVERNOR_WIDENED : MLF_GOVERNOR_REQUESTED;
	if (load_relaxed(&budget_ppm) == 0 || !governs(header))
		state = MLF_GOVERNOR_NONE;
	store_relaxed(&header->governor_state, state);
}

static void decide(struct mlf_header *header, uint64_t now_ns)
{
	if (exchange_acq_rel(&deciding, 1))
		return;
	note_budget(header);
	uint64_t elapsed = now_ns - load_relaxed(&window_ns);
	struct governor_window w = {load_relaxed(&header->own_cost_ns) - load_relaxed(&window_cost_ns),
				    most(elapsed, GOVERNOR_GRAIN_NS), (uint32_t)load_relaxed(&budget_ppm), cpu_used(now_ns)};
	bool over;
	uint32_t greatest = greatest_factor(header);
	uint32_t factor = governor_factor(load_relaxed(&factor_x1024), greatest, &w, &over);
	store_relaxed(&factor_x1024, factor);
	store_relaxed(&is_due, 0);
	if (publish(header))
		add_relaxed(&header->governor_changes, 1);
	store_relaxed(&header->widened_x1024, factor);
	note_state(header, over);
	begin_window(header, now_ns);
	store_release(&deciding, 0); // pairs with exchange_acq_rel() above
}

static bool is_overdue(uint64_t now_ns) { return load_relaxed(&is_due) && now_ns - load_relaxed(&due_ns) > OVERDUE_NS; }

void governor_check(struct mlf_header *header, enum governor_stream stream, const void *who)
{
	uint64_t now_ns = clock_monotonic_ns();
	if (load_relaxed(&is_due)) {
		if (is_overdue(now_ns))
			decide(header, now_ns);
		return;
	}
	uint32_t none = 0;
	store_relaxed(&due_ns, now_ns);
	store_relaxed(&due_who, who);
	store_relaxed(&due_stream, stream);
	// Two greatest intervals, and the part of one up to the next multiple of 64.
	uint64_t law = stream == GOVERNOR_NATIVE ? load_relaxed(&header->effective) : load_relaxed(&header->python_effective);
	store_relaxed(&due_looks, 2 * law_max(law) / SAMPLER_EPOCH_CALLS + 1);
	if (cas_relaxed(&is_due, &none, 1))
		publish(header);
}

void governor_look(struct mlf_header *header, enum governor_stream stream, const void *who, bool whole)
{
	bool is_native = stream == GOVERNOR_NATIVE;
	uint64_t *word = is_native ? &header->requested : &header->python_requested;
	uint64_t requested = load_relaxed(word);
	if (requested != load_relaxed(&governor.adopted[stream]) ||
	    (is_native && load_relaxed(&header->requested_sample_bytes) != load_relaxed(&governor.adopted_bytes)))
		adopt(header, stream, word, requested);
	else if (!load_relaxed(&is_due))
		publish(header); // two have stored at the same time
	else if (whole && load_relaxed(&due_who) == who && load_relaxed(&due_stream) == stream) {
		uint32_t looks = load_relaxed(&due_looks); // its own alone
		store_relaxed(&due_looks, looks - 1);
		if (looks <= 1)
			decide(header, clock_monotonic_ns());
	}
}

// ---- cold ----------------------------------------------------------------------------------------

void governor_poll(struct mlf_header *header)
{
	uint64_t now_ns = clock_monotonic_ns(), at = load_relaxed(&cpu_at_ns), since = now_ns - at;
	if (at == 0 || since >= SECOND_NS / 2) {
		uint64_t cpu = clock_process_cpu_ns(), used = ((cpu - load_relaxed(&cpu_ns)) << 10) / most(since, 1);
		// It rises at once and falls by halves: what is sampled at work is not to be judged by the pause before it.
		if (at)
			store_relaxed(&cpu_x1024, (uint32_t)most(most(least(used, 1U << 20), load_relaxed(&cpu_x1024) / 2), CPU_LEAST_X1024));
		store_relaxed(&cpu_ns, cpu);
		store_relaxed(&cpu_at_ns, now_ns);
	}
	if (is_overdue(now_ns) || (!load_relaxed(&is_due) && now_ns - load_relaxed(&window_ns) >= SECOND_NS))
		decide(header, now_ns);
}

void governor_begin(struct mlf_header *header)
{
	store_relaxed(&deciding, 0); // in a forked child nobody may be left who would
	store_relaxed(&is_due, 0);
	store_relaxed(&factor_x1024, GOVERNOR_ONE);
	store_relaxed(&cpu_at_ns, 0);
	store_relaxed(&cpu_x1024, 1024);
	store_relaxed(&budget_ppm, 0);
	note_budget(header);
	store_relaxed(&governor.adopted[GOVERNOR_NATIVE], load_relaxed(&header->requested));
	store_relaxed(&governor.adopted[GOVERNOR_PYTHON], load_relaxed(&header->python_requested));
	store_relaxed(&governor.adopted_bytes, load_relaxed(&header->requested_sample_bytes));
	note_state(header, false);
	publish(header);
	begin_window(header, clock_monotonic_ns());
}

void governor_end(void)
{
	store_relaxed(&governor.flip[GOVERNOR_NATIVE], 0);
	store_relaxed(&governor.flip[GOVERNOR_PYTHON], 0);
}
