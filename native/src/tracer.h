// tracer.h -- policy: what a sampled allocation and free do
//
// Layer 11. Sampled, unless marked cold. Hooks call these and nothing below.
#ifndef MEMLEAK_TRACER_H
#define MEMLEAK_TRACER_H

#include "base.h"
#include "counter.h"
#include "governor.h"
#include "liveset.h"
#include "memleak_format.h"
#include "sampler.h"

// What the look at a multiple of 64 calls checks. Written by cold code.
struct tracer_gate {
	uint32_t *armed;          // reads 0 in a forked child, until it has a recording of its own
	const uint64_t *interval; // the knob word that readers may change
	bool native_off;          // what does not come by Python's allocators is not recorded, though it is counted down
};
extern struct tracer_gate tracer_gate HIDDEN;

// After sampler_pass_hot() said no: true if nothing is to be done after all.
static inline bool tracer_look_hot(size_t size_bytes)
{
	return load_relaxed(load_relaxed(&tracer_gate.armed)) &&
	       sampler_look_hot(size_bytes, load_relaxed(load_relaxed(&tracer_gate.interval)) ^ load_relaxed(&governor.flip[GOVERNOR_NATIVE]));
}

// Between these two the recording's tables may be touched. NULL: nothing is being recorded; else what tracer_leave() wants.
uint32_t *tracer_enter(void);
void tracer_leave(uint32_t *inside);

// After both said no: the weight this allocation is to be recorded with, 0 = not.
uint32_t tracer_take(size_t size_bytes);

// The same for a request to Python's small-object allocators, after counter_pass_hot(&tracer_python) said no.
extern struct counter tracer_python HIDDEN;
uint32_t tracer_take_python(void);

// What malloc's hooks hand out on this thread between the two calls, up to eight blocks: does one of them hold p?
// Nothing of it is recorded. Cold.
struct tracer_probe {
	int32_t calls_left;
	uint8_t busy;
};
struct tracer_probe tracer_probe_begin(void);
bool tracer_probe_end(const struct tracer_probe *probe, const void *p);

// Record an allocation that succeeded. `caller` as of REGISTERS_OF_CALLER() in the hook.
void tracer_allocated(void *address, size_t size_bytes, uint32_t weight_x1024, enum mlf_layer layer,
		      enum mlf_domain domain, const struct registers *caller);

// Forget before the real free. Only needed when bitmap_test_hot(address).
void tracer_freeing(void *address, enum mlf_layer layer);

// realloc: forget before the real call, then one of the two ends.
struct tracer_moving {
	bool was_sampled;
	uint32_t recording; // its number: another may have been opened before the real call returned
	struct live_sample sample;
};
void tracer_moving(void *address, enum mlf_layer layer, struct tracer_moving *out);
void tracer_move_failed(void *address, enum mlf_layer layer, const struct tracer_moving *moving);
void tracer_moved(const struct tracer_moving *from, void *to, size_t size_bytes, uint32_t weight_x1024,
		  enum mlf_layer layer, enum mlf_domain domain,
		  const struct registers *caller); // weight 0: the new block is not sampled

struct mappings_cut;
// Mappings. tracer_unmapping() forgets what [start, start + bytes) covers before the real call.
void tracer_mapped(void *start, size_t bytes, const struct registers *caller);
void tracer_unmapping(void *start, size_t bytes, struct mappings_cut *out);
void tracer_unmap_failed(const struct mappings_cut *unmapped);

// ---- cold ----------------------------------------------------------------------------------------

#define TRACER_MMAP_ALWAYS (64U << 10) // mappings of at least this are always recorded

enum tracer_state { // as memleak_state() gives it
	TRACER_IDLE = 0,
	TRACER_RECORDING = 1,
	TRACER_STOPPED = 2,
	TRACER_FORKED = 3, // a child whose own recording is not open yet
};
enum tracer_state tracer_state(void);
static inline bool tracer_is_recording(void) { return tracer_state() == TRACER_RECORDING; }

// Of who starts or stops, and of a thread that opens a forked child's recording, perhaps inside malloc.
struct turn;
extern struct turn tracer_turn HIDDEN;

struct recording_options;
// Opens a recording. With the turn, and not while one is open. After a stop it waits until no thread is in
// sampled code any more; false and *why if one stays there.
bool tracer_start(const struct recording_options *options, bool follow_fork, const char **why);

// A forked child's own recording, if it is to have one and nobody has the turn. Then tracer_is_recording().
void tracer_open_in_child(void);

// The same, or after who has the turn has left it: not inside malloc. False: this is no such child.
bool tracer_await_child(void);

// Called right after a child has opened its own, perhaps inside malloc. Cold to set.
void tracer_when_child_opens(void (*call)(void));

// STOPPED, with the turn: nothing is written any more. EXITED: marks the end, late destructors still record.
void tracer_stop(enum mlf_state state);

// The knobs of the open recording from now on. False: not valid, or nothing is open.
bool tracer_configure(uint64_t interval, uint64_t python_interval, uint64_t sample_bytes);
bool tracer_set_budget(uint64_t budget_ppm); // the same
bool tracer_set_focus(const char *text);     // the same; text as in memleak.h

// The row of the live sample of an address, by whatever it was asked for; 0: none.
uint32_t tracer_row_at(const void *address);

void tracer_gauge_was_set(uint32_t number); // into the open recording; sampled

struct rows_held;
struct rows_held tracer_held(void); // what all rows hold; nothing while not recording
void tracer_reset_peak(void);

// Has cold work done that looks at the recording's tables; false: nothing is being recorded.
bool tracer_do(void (*work)(const void *about), const void *about);

void tracer_poll(void); // chores: room, names, the limit, copies
void tracer_make_room(void); // of the two, what cannot wait for the next chore
void tracer_make_room_in_allocator(void); // the same as far as it can be done there; opens no file
void tracer_note_python(void); // what is known of an interpreter in this process
void tracer_unload_noticed(void);

struct catalog_coverage;
void tracer_note_coverage(unsigned module, const struct catalog_coverage *coverage);

// Hooks had been taken away: frees went past. Closes every sample of what malloc and operator new gave, as `displaced`.
void tracer_hooks_were_displaced(void);
void tracer_python_was_displaced(bool unseen); // the same for what Python's allocators gave; `unseen`: blocks were, too

#endif
