// tracer.c -- policy: what a sampled allocation and free do
//
// Context:   sampled; tracer_start(), tracer_stop() and tracer_poll() are cold.
// Invariant: nothing of the recording's tables is touched but between enter() and leave(). The word behind
//            `armed` lies in a page that the kernel zeroes in a forked child, so a child (by fork or a raw clone)
//            is detached before its first instruction and never writes into its parent's recording.
//            A recording is replaced only when everybody who entered has left. Who starts or stops, and who opens a
//            child's recording, has the turn.
// Why:       the hooks decide nothing; everything they may do is here, once, for both doors.
// Proof:     tests/native/test_tracer.c; tests/integration/test_fork.py, test_oracle.py; tests/models/tracer.pml
#include "tracer.h"

#include "bitmap.h"
#include "catalog.h"
#include "clock.h"
#include "copies.h"
#include "focus.h"
#include "gauges.h"
#include "heaps.h"
#include "ledger.h"
#include "liveset.h"
#include "mappings.h"
#include "marks.h"
#include "modules.h"
#include "outcome.h"
#include "owners.h"
#include "pools.h"
#include "pyframes.h"
#include "pylabel.h"
#include "recording.h"
#include "regions.h"
#include "rows.h"
#include "samples.h"
#include "stats.h"
#include "sys.h"
#include "turn.h"
#include "unwind.h"

#include <time.h>

#define CHILD_CALLS_BEFORE_OPENING 1000U

#define SHARDS 32U
#define QUIET_WAIT_NS 100000U
#define STOP_WAITS 2000U   // a thread in here may have been preempted, not more
#define START_WAITS 20000U // two seconds

static const uint64_t off_interval = SAMPLER_OFF, off_bytes = 0;

// One page. How many threads are in sampled code is counted in 32 places, a cache line each: two locked
// instructions a sample, 4 % of its cost. (Plain stores and membarrier() would want a list of threads.)
struct wiped {
	uint32_t word; // not 0: armed
	uint32_t calls, detached; // of a forked child without a recording of its own
	struct {
		uint32_t inside;
		uint32_t reserved[15];
	} shard[SHARDS] __attribute__((aligned(64)));
};
_Static_assert(sizeof(struct wiped) <= PAGE_BYTES, "one page is wiped");

static struct wiped never_started = {.word = 1}; // nothing to detach from
static struct wiped *wiped = &never_started;
struct tracer_gate tracer_gate = {&never_started.word, &off_interval, false};
#define armed tracer_gate.armed
struct counter tracer_python;
static enum { IDLE, ACTIVE, STOPPED } phase; // written by cold code
static struct recording_options reopen_options;
static bool follow_fork;
struct turn tracer_turn;

// A hint unless asked between enter() and leave(). Sequentially consistent: see enter().
static bool is_armed(void) { return load_seq_cst(load_relaxed(&armed)) != 0 && load_seq_cst(&phase) == ACTIVE; }

enum tracer_state tracer_state(void)
{
	if (load_relaxed(&phase) == ACTIVE)
		return load_relaxed(load_relaxed(&armed)) ? TRACER_RECORDING : TRACER_FORKED;
	return load_relaxed(&phase) == STOPPED ? TRACER_STOPPED : TRACER_IDLE;
}

// ---- who is inside -------------------------------------------------------------------------------

// NULL: not recording. Else what leave() wants. The count goes up before the phase is looked at, and
// tracer_stop() sets the phase before it looks at the counts: one of the two sees the other.
static uint32_t *enter(void)
{
	if (unlikely(!is_armed()))
		return NULL; // before the first start there is no page to be counted in that a child finds zeroed
	uint32_t shard = (uint32_t)((uintptr_t)&sampler_self * MLF_CHECK_1 >> 59);
	uint32_t *inside = &load_relaxed(&wiped)->shard[shard].inside;
	add_seq_cst(inside, 1);
	if (likely(is_armed()))
		return inside;
	sub_release(inside, 1);
	return NULL;
}

static void leave(uint32_t *inside) { sub_release(inside, 1); } // pairs with all_left()

uint32_t *tracer_enter(void) { return enter(); }
void tracer_leave(uint32_t *inside) { leave(inside); }

// Have all left who entered before the phase was changed? A little later is soon enough.
static bool all_left(unsigned waits)
{
	static const struct timespec pause = {.tv_nsec = QUIET_WAIT_NS};
	// Each place by itself: whoever enters from now on finds the phase changed and does nothing.
	for (unsigned i = 0; i < SHARDS; i++)
		while (load_seq_cst(&wiped->shard[i].inside)) {
			if (waits-- == 0)
				return false;
			sys_call(SYS_nanosleep, &pause, 0, 0);
		}
	return true;
}

// ---- the decision --------------------------------------------------------------------------------

static void (*when_child_opens)(void);

void tracer_when_child_opens(void (*call)(void)) { when_child_opens = call; }

// What would have been sampled of the calls made before there was a recording.
static void note_missed(uint64_t interval, uint32_t calls)
{
	uint32_t sum = (uint16_t)interval + (uint16_t)(interval >> 16);
	if ((uint32_t)interval != SAMPLER_OFF && calls)
		add_relaxed(&stats_counters[MLF_COUNTER_detached], (calls * 2 + sum - 1) / sum);
}

// What a forked child's own recording goes on with. Its parent may have been about to replace the header when it forked.
static void inherit(void)
{
	const struct mlf_header *header = recording.header;
	uint32_t interval = (uint32_t)load_relaxed(&governor.adopted[GOVERNOR_NATIVE]);
	if (!sampler_interval_valid((uint32_t)load_relaxed(&header->effective)))
		return;
	reopen_options.parent_recording_id = header->recording_id;
	// As requested: what its parent's samples cost says little of it.
	reopen_options.interval = interval;
	reopen_options.python_interval = (uint32_t)load_relaxed(&governor.adopted[GOVERNOR_PYTHON]);
	reopen_options.sample_bytes = load_relaxed(&governor.adopted_bytes);
	reopen_options.focus = focus_text();
	reopen_options.budget_ppm = (uint32_t)load_relaxed(&header->budget_ppm);
}

// Of a forked child, whose counters are private memory from now on until it has its own recording, lest anything counted
// meets its parent's. With the turn: counters that were attached meanwhile must stay.
static void detach(void)
{
	if (tracer_state() != TRACER_FORKED || load_relaxed(&wiped->detached))
		return;
	stats_detach();
	store_relaxed(&wiped->detached, 1);
}

// With the turn. It may be inside malloc: see recording.c.
static void open_own(void)
{
	if (tracer_state() != TRACER_FORKED || !follow_fork)
		return;
	struct sampler *self = &sampler_self;
	const char *why;
	uint32_t was_busy = self->busy;
	self->busy = 1;
	detach();
	inherit();
	if (!tracer_start(&reopen_options, follow_fork, &why)) {
		store_relaxed(&phase, STOPPED);
	} else {
		if (!reopen_options.native_off)
			note_missed(recording.header->effective, load_relaxed(&wiped->calls));
	}
	if (when_child_opens)
		when_child_opens();
	self->busy = was_busy;
}

void tracer_open_in_child(void)
{
	if (tracer_state() != TRACER_FORKED || !follow_fork || !turn_try(&tracer_turn))
		return;
	open_own();
	turn_leave(&tracer_turn);
}

bool tracer_await_child(void)
{
	if (tracer_state() != TRACER_FORKED)
		return false;
	turn_take(&tracer_turn);
	open_own();
	turn_leave(&tracer_turn);
	return true;
}

static void note_child_calls(uint32_t calls)
{
	struct wiped *page = load_relaxed(&wiped);
	if (unlikely(!load_relaxed(&page->detached)) && turn_try(&tracer_turn)) {
		detach();
		turn_leave(&tracer_turn);
	}
	if (add_relaxed(&page->calls, calls) + calls >= CHILD_CALLS_BEFORE_OPENING)
		tracer_open_in_child();
}

static COLD uint32_t take_unarmed(size_t size_bytes)
{
	// The countdowns run on under the off law, so the slow path is met once in 64 calls; before a thread
	// has adopted that, at any. The calls themselves are counted, not the looks.
	uint32_t calls = sampler_self.calls_left <= 0 ? sampler_self.calls_loaded : 0;
	sampler_take(size_bytes, &off_interval, &off_bytes);
	if (load_relaxed(&phase) == ACTIVE) // a forked child
		note_child_calls(calls);
	return 0;
}

// Has the countdown run out at a multiple of 64 calls?
static bool is_whole(int32_t calls_left, uint32_t calls) { return calls_left <= 0 && calls % SAMPLER_EPOCH_CALLS == 0; }

static NOINLINE void look_at_focus(void)
{
	uint32_t *inside = enter();
	if (!inside)
		return;
	focus_look(recording.header, &tracer_gate.interval);
	leave(inside);
}

uint32_t tracer_take(size_t size_bytes)
{
	if (unlikely(sampler_self.busy)) {
		sampler_skip(size_bytes);
		if (sampler_self.busy == SAMPLER_PROBE)
			return SAMPLER_WEIGHT_ONE;
		if (is_armed() && sampler_self.busy != SAMPLER_NOT_THE_PROGRAM)
			count(nested);
		return 0;
	}
	if (unlikely(!is_armed()))
		return take_unarmed(size_bytes);
	struct mlf_header *header = load_relaxed(&recording.header); // nobody waits for us here: it may be the last recording's, at the same place
	if (unlikely(!governor_matches_hot(GOVERNOR_NATIVE, load_relaxed(&header->requested), load_relaxed(&header->effective)) ||
		     load_relaxed(&header->requested_sample_bytes) != load_relaxed(&governor.adopted_bytes)))
		governor_look(header, GOVERNOR_NATIVE, &sampler_self,
			      is_whole(sampler_self.calls_left, sampler_self.calls_mod_64 + sampler_self.calls_loaded));
	if (unlikely(focus_is_new(header)))
		look_at_focus();
	uint32_t weight = sampler_take(size_bytes, &header->effective, &header->effective_sample_bytes);
	if (unlikely(weight & SAMPLER_ASK) && sampler_self.calls_mod_64 == 0)
		focus_spend_asking(header);
	return weight;
}

uint32_t tracer_take_python(void)
{
	if (unlikely(!is_armed() || !pyframes_is_allowed()))
		return counter_take(&tracer_python, &off_interval);
	struct mlf_header *header = load_relaxed(&recording.header); // nobody waits for us here
	if (unlikely(!governor_matches_hot(GOVERNOR_PYTHON, load_relaxed(&header->python_requested), load_relaxed(&header->python_effective))))
		governor_look(header, GOVERNOR_PYTHON, NULL,
			      is_whole(tracer_python.calls_left, tracer_python.calls_mod_64 + tracer_python.calls_loaded));
	if (unlikely(focus_is_new(header)))
		look_at_focus();
	uint32_t weight = counter_take(&tracer_python, &header->python_effective);
	if (unlikely(weight & SAMPLER_ASK) && tracer_python.calls_mod_64 == 0)
		focus_spend_asking(header);
	return sampler_self.busy ? 0 : weight; // a signal handler of ours or in our code: its turn is passed over
}

// ---- samples ---------------------------------------------------------------------------------------

// Calls that are not wanted are part of the stream like others: each call has its probability for itself.
static bool is_wanted(enum mlf_domain domain)
{
	return likely(!load_relaxed(&tracer_gate.native_off)) || domain == MLF_DOMAIN_PYMALLOC_OBJ ||
	       domain == MLF_DOMAIN_PYMALLOC_MEM || domain == MLF_DOMAIN_PYMEM_RAW;
}

static struct probed { // by the one thread that probes
	uintptr_t low, high;
} probed[8];
static unsigned probed_count;

static void note_probed(const void *address, size_t size_bytes)
{
	if (probed_count < ARRAY_LEN(probed))
		probed[probed_count++] = (struct probed){(uintptr_t)address, (uintptr_t)address + size_bytes};
}

struct tracer_probe tracer_probe_begin(void)
{
	struct tracer_probe before = {sampler_self.calls_left, sampler_self.busy};
	probed_count = 0;
	sampler_self.busy = SAMPLER_PROBE;
	sampler_self.calls_left = 0; // every call takes the slow path until it is put back
	return before;
}

bool tracer_probe_end(const struct tracer_probe *before, const void *p)
{
	sampler_self.calls_left = before->calls_left;
	sampler_self.busy = before->busy;
	for (unsigned i = 0; i < probed_count; i++)
		if ((uintptr_t)p >= probed[i].low && (uintptr_t)p < probed[i].high)
			return true;
	return false;
}

void tracer_allocated(void *address, size_t size_bytes, uint32_t weight_x1024, enum mlf_layer layer,
		      enum mlf_domain domain, const struct registers *caller)
{
	if (unlikely(sampler_self.busy == SAMPLER_PROBE)) { // first: what it finds out outlives the recording
		note_probed(address, size_bytes);
		return;
	}
	uint32_t judged = is_wanted(domain) ? focus_ask(weight_x1024, domain, caller) : 0;
	uint32_t *inside = judged ? enter() : NULL;
	if (unlikely(!inside))
		return;
	samples_record(address, &(struct live_sample){.size_bytes = size_bytes, .weight_x1024 = FOCUS_WEIGHT(judged)}, layer, domain,
		       caller, focus_note(recording.header, judged));
	leave(inside);
}

void tracer_freeing(void *address, enum mlf_layer layer)
{
	uint32_t *inside = enter();
	if (unlikely(!inside))
		return;
	samples_forget(address, layer, false);
	leave(inside);
}

// ---- realloc ---------------------------------------------------------------------------------------

void tracer_moving(void *address, enum mlf_layer layer, struct tracer_moving *out)
{
	uint32_t *inside = enter();
	out->was_sampled = inside && liveset_remove(address, layer, &out->sample);
	if (inside) {
		out->recording = recording.number;
		leave(inside);
	}
}

// Does what was taken out belong to the recording that is open now? Asked inside.
static bool is_of_now(const struct tracer_moving *m) { return m->was_sampled && m->recording == recording.number; }

void tracer_move_failed(void *address, enum mlf_layer layer, const struct tracer_moving *moving)
{
	uint32_t *inside = moving->was_sampled ? enter() : NULL;
	if (!inside)
		return;
	const struct live_sample *sample = &moving->sample;
	if (is_of_now(moving) && !liveset_insert(address, layer, sample)) // counted there
		rows_remove(samples_row(sample->row), sample->size_bytes, sample->weight_x1024, clock_now_cs());
	leave(inside);
}

void tracer_moved(const struct tracer_moving *from, void *to, size_t size_bytes, uint32_t weight_x1024,
		  enum mlf_layer layer, enum mlf_domain domain, const struct registers *caller)
{
	uint32_t judged = weight_x1024 && is_wanted(domain) ? focus_ask(weight_x1024, domain, caller) : 0;
	uint32_t *inside = from->was_sampled || judged ? enter() : NULL;
	if (!inside)
		return;
	bool known = is_of_now(from);
	if (known) {
		rows_remove(samples_row(from->sample.row), from->sample.size_bytes, from->sample.weight_x1024, clock_now_cs());
		count(forgotten);
	}
	if (judged)
		samples_record(to,
		       &(struct live_sample){.size_bytes = size_bytes,
					     .weight_x1024 = FOCUS_WEIGHT(judged),
					     .born_cs = known ? from->sample.born_cs : 0},
		       layer, domain, caller, focus_note(recording.header, judged));
	leave(inside);
}

// ---- mappings --------------------------------------------------------------------------------------

void tracer_mapped(void *start, size_t bytes, const struct registers *caller)
{
	uint32_t *inside = sampler_self.busy || !is_wanted(MLF_DOMAIN_MMAP) ? NULL : enter();
	if (!inside)
		return;
	if (unlikely(focus_is_new(recording.header)))
		focus_look(recording.header, &tracer_gate.interval);
	uint32_t drawn = (uint32_t)load_relaxed(&recording.header->effective) != SAMPLER_OFF ? SAMPLER_WEIGHT_ONE : 0;
	uint32_t judged = focus_judge(drawn, MLF_DOMAIN_MMAP, caller);
	if (judged)
		mappings_record(start, bytes, caller, focus_note(recording.header, judged));
	leave(inside);
}

void tracer_unmapping(void *start, size_t bytes, struct mappings_cut *out)
{
	out->count = 0;
	uint32_t *inside = regions_any() || pools_regions_any() ? enter() : NULL;
	if (!inside)
		return;
	mappings_cut(start, bytes, false, out);
	if (pools_regions_any())
		owners_unmapping((uintptr_t)start, (uintptr_t)start + bytes);
	leave(inside);
}

void tracer_unmap_failed(const struct mappings_cut *unmapped)
{
	uint32_t *inside = unmapped->count ? enter() : NULL;
	if (!inside)
		return;
	mappings_put_back(unmapped);
	leave(inside);
}

// ---- cold ------------------------------------------------------------------------------------------

static struct wiped *wiped_page(void)
{
	struct wiped *page = sys_private_pages(PAGE_BYTES);
	if (page && sys_madvise(page, PAGE_BYTES, MADV_WIPEONFORK) == 0)
		return page;
	return NULL;
}

bool tracer_start(const struct recording_options *options, bool follow, const char **why)
{
	if (wiped == &never_started) {
		struct wiped *page = wiped_page();
		if (!page) {
			*why = "the kernel has no MADV_WIPEONFORK (before Linux 4.14)";
			return false;
		}
		// In this order: what a child that is forked in between starts with is whole, or not begun.
		store_release(&armed, &page->word);
		store_release(&wiped, page);
	} else {
		if (!all_left(START_WAITS)) {
			*why = "a thread has not come out of the last recording for two seconds; try again later";
			return false;
		}
		bitmap_drop();
		regions_drop();
		outcome_drop();
		if (phase != ACTIVE) // a forked child has its parent's in its memory
			gauges_adopt();
	}
	uint64_t seed = options->seed;
	if (!seed)
		sys_getrandom(&seed, sizeof(seed));
	seed ^= phase == ACTIVE ? (uint64_t)sys_getpid() * MLF_CHECK_3 : 0; // a forked child draws its own
	sampler_seed(seed);
	bitmap_open();
	if (!recording_open(options, why)) {
		if (!*why)
			*why = "no address space for a recording";
		return false;
	}
	rows_open();
	owners_open();
	copies_begin();
	marks_begin();
	ledger_begin();
	heaps_begin();
	reopen_options = *options;
	follow_fork = follow;
	recording.header->sample_cost_ns = samples_calibrate();
	governor_begin(recording.header);
	store_relaxed(&tracer_gate.interval, &recording.header->requested);
	focus_begin(recording.header, options->focus, &tracer_gate.interval);
	pyframes_open();
	recording.header->python_state = pyframes_state(); // no look for one: a forked child opens inside malloc
	recording.header->python_version = pyframes_version();
	recording.header->label_state = pylabel_state();
	store_relaxed(&tracer_gate.native_off, options->native_off);
	store_release(&phase, ACTIVE);
	store_seq_cst(armed, 1); // from here on hooks record
	sampler_restart();       // this thread follows the new knobs at once, others within 64 calls
	counter_restart(&tracer_python, seed);
	fence_seq_cst(); // pairs with tracer_gauge_was_set()
	for (uint32_t number = gauges_given(); number; number--)
		tracer_gauge_was_set(number);
	return true;
}

void tracer_stop(enum mlf_state state)
{
	bool was_recording = tracer_is_recording();
	if (state == MLF_STATE_STOPPED) {
		store_seq_cst(&phase, STOPPED); // pairs with enter()
		store_relaxed(&tracer_gate.interval, &off_interval);
		governor_end();
		focus_end();
		if (was_recording)
			all_left(STOP_WAITS); // then it is frozen; a thread that stays in there may still finish its one sample
	}
	if (was_recording) {
		recording_close(state);
		copies_write_last();
	}
}

// The epoch numbers the changes. What is so already is none; `anyway`: what goes with it is one. Ours are odd, those
// from outside even: a request from there at the same moment, which cannot be a compare-and-swap, has another.
static void request(uint64_t *word, uint64_t interval, bool anyway)
{
	uint64_t seen = load_relaxed(word);
	while ((anyway || (uint32_t)seen != (uint32_t)interval) &&
	       !cas_relaxed(word, &seen, (((seen >> 32) + 1) | 1) << 32 | (uint32_t)interval))
		;
}

bool tracer_configure(uint64_t interval, uint64_t python_interval, uint64_t sample_bytes)
{
	if (!sampler_interval_valid(interval) || !sampler_interval_valid(python_interval) || (sample_bytes && sample_bytes < 4096) ||
	    !tracer_is_recording())
		return false;
	bool other_bytes = load_relaxed(&recording.header->requested_sample_bytes) != sample_bytes;
	store_relaxed(&recording.header->requested_sample_bytes, sample_bytes);
	request(&recording.header->requested, interval, other_bytes);
	request(&recording.header->python_requested, python_interval, false);
	return true;
}

bool tracer_set_budget(uint64_t budget_ppm)
{
	if (budget_ppm > MLF_BUDGET_PPM_MAX || !tracer_is_recording())
		return false;
	store_relaxed(&recording.header->budget_ppm, budget_ppm);
	return true;
}

bool tracer_set_focus(const char *text)
{
	if (!tracer_is_recording() || !focus_request(recording.header, text))
		return false;
	look_at_focus();
	return true;
}

void tracer_gauge_was_set(uint32_t number)
{
	uint32_t *inside = enter();
	if (unlikely(!inside)) {
		fence_seq_cst(); // who starts arms first and then looks what is kept: one of the two sees the other
		if (!(inside = enter()))
			return;
	}
	gauges_write(number);
	leave(inside);
}

uint32_t tracer_row_at(const void *address)
{
	static const enum mlf_layer layers[] = {MLF_LAYER_PYMEM, MLF_LAYER_MALLOC, MLF_LAYER_OPERATOR_NEW, MLF_LAYER_MMAP};
	uint32_t *inside = enter();
	struct live_sample sample = {.row = 0};
	for (unsigned i = 0; inside && i < ARRAY_LEN(layers) && !liveset_find(address, layers[i], &sample); i++)
		;
	if (inside)
		leave(inside);
	return sample.row;
}

struct rows_held tracer_held(void)
{
	uint32_t *inside = enter();
	if (!inside)
		return (struct rows_held){0, 0};
	struct rows_held now = rows_held_now();
	leave(inside);
	return now;
}

bool tracer_do(void (*work)(const void *about), const void *about)
{
	uint32_t *inside = enter();
	if (!inside)
		return false;
	work(about);
	leave(inside);
	return true;
}

static void reset_peak(const void *unused)
{
	(void)unused;
	rows_reset_peak();
}

void tracer_reset_peak(void) { tracer_do(reset_peak, NULL); }

void tracer_note_python(void)
{
	enum mlf_python state = pyframes_state();
	if (!tracer_is_recording())
		return;
	store_relaxed(&recording.header->python_version, pyframes_version());
	store_relaxed(&recording.header->python_state, state);
	store_relaxed(&recording.header->label_state, pylabel_state());
}

static void name_modules(const void *unused)
{
	(void)unused;
	catalog_name_modules();
	owners_write();
}

// What is written down at once may be the last that can be.
static void look_at_memory(const void *unused)
{
	(void)unused;
	bool marked = marks_are_due() && marks_look();
	if (marked)
		copies_hurry();
	if (marked || ledger_is_due())
		ledger_look();
}

static void look_at_cost(const void *unused)
{
	(void)unused;
	governor_poll(recording.header);
	if (focus_is_new(recording.header))
		focus_look(recording.header, &tracer_gate.interval);
}

void tracer_poll(void)
{
	if (!tracer_is_recording())
		return;
	tracer_do(look_at_cost, NULL);
	tracer_note_python();
	catalog_name_threads();
	tracer_make_room();
	tracer_do(name_modules, NULL);
	tracer_do(look_at_memory, NULL);
	copies_write_when_due();
}

void tracer_make_room(void)
{
	while (tracer_is_recording() && recording_grow())
		;
}

void tracer_make_room_in_allocator(void)
{
	while (tracer_is_recording() && recording_grow_as_allowed())
		;
}

// The number of samples closed.
static unsigned close_displaced(const enum mlf_layer *layers, unsigned count_layers)
{
	uint32_t *inside = enter();
	if (!inside)
		return 0;
	unsigned closed = samples_close_displaced(layers, count_layers);
	leave(inside);
	return closed;
}

void tracer_unload_noticed(void)
{
	modules_note_unload();
	if (is_armed())
		count(unloads);
}

void tracer_note_coverage(unsigned module, const struct catalog_coverage *coverage)
{
	uint32_t *inside = enter();
	if (!inside)
		return;
	catalog_coverage(module, coverage);
	leave(inside);
}

void tracer_hooks_were_displaced(void)
{
	static const enum mlf_layer layers[] = {MLF_LAYER_MALLOC, MLF_LAYER_OPERATOR_NEW};
	close_displaced(layers, ARRAY_LEN(layers));
}

void tracer_python_was_displaced(bool unseen)
{
	static const enum mlf_layer layers[] = {MLF_LAYER_PYMEM};
	if (close_displaced(layers, ARRAY_LEN(layers)) == 0 && unseen && is_armed())
		count(displaced);
}
