// tracer.c -- policy: what a sampled allocation and free do
//
// Context:   sampled.
// Invariant: nothing of the recording's tables is touched but between tracer_enter() and tracer_leave(). What was taken out
//            of one recording is not accounted for in another.
// Why:       the hooks decide nothing; everything they may do is here, once, for both doors.
// Proof:     tests/native/test_tracer.c, test_lockfree_tracer.c; tests/integration/test_oracle.py; tests/models/order.pml, tracer.pml
#include "tracer.h"

#include "clock.h"
#include "focus.h"
#include "mappings.h"
#include "owners.h"
#include "pools.h"
#include "recording.h"
#include "regions.h"
#include "rows.h"
#include "samples.h"
#include "stats.h"
#include "thinning.h"
#include "tracer_gate.h"
#include "tracer_probe.h"

// Calls that are not wanted are part of the stream like others: each call has its probability for itself.
static bool is_wanted(enum mlf_domain domain)
{
	return likely(!load_relaxed(&tracer_gate.native_off)) || domain == MLF_DOMAIN_PYMALLOC_OBJ ||
	       domain == MLF_DOMAIN_PYMALLOC_MEM || domain == MLF_DOMAIN_PYMEM_RAW;
}

void tracer_allocated(void *address, size_t size_bytes, uint32_t weight_x1024, enum mlf_layer layer,
		      enum mlf_domain domain, const struct registers *caller)
{
	if (unlikely(sampler_self.busy == SAMPLER_PROBE)) { // first: what it finds out outlives the recording
		tracer_probe_note(address, size_bytes);
		return;
	}
	uint32_t judged = is_wanted(domain) ? focus_ask(weight_x1024, domain, caller) : 0;
	uint32_t *inside = judged ? tracer_enter() : NULL;
	if (unlikely(!inside))
		return;
	samples_record(address, &(struct live_sample){.size_bytes = size_bytes, .weight_x1024 = FOCUS_WEIGHT(judged)}, layer, domain,
		       caller, focus_note(recording.header, judged));
	tracer_leave(inside);
}

void tracer_freeing(void *address, enum mlf_layer layer)
{
	uint32_t *inside = tracer_enter();
	if (unlikely(!inside))
		return;
	samples_forget(address, layer, false);
	tracer_leave(inside);
}

// ---- realloc ---------------------------------------------------------------------------------------

void tracer_moving(void *address, enum mlf_layer layer, struct tracer_moving *out)
{
	uint32_t *inside = tracer_enter();
	out->was_sampled = inside && liveset_remove(address, layer, &out->sample);
	if (inside) {
		out->recording = recording.number;
		tracer_leave(inside);
	}
}

// Does what was taken out belong to the recording that is open now? Asked inside.
static bool is_of_now(const struct tracer_moving *m) { return m->was_sampled && m->recording == recording.number; }

void tracer_move_failed(void *address, enum mlf_layer layer, const struct tracer_moving *moving)
{
	uint32_t *inside = moving->was_sampled ? tracer_enter() : NULL;
	if (!inside)
		return;
	const struct live_sample *sample = &moving->sample;
	struct liveset_place place;
	if (is_of_now(moving) && !thinning_insert(address, layer, sample, &place, clock_now_cs())) // counted there
		rows_remove(samples_row(sample->row), sample->size_bytes, sample->weight_x1024, clock_now_cs());
	tracer_leave(inside);
}

void tracer_moved(const struct tracer_moving *from, void *to, size_t size_bytes, uint32_t weight_x1024,
		  enum mlf_layer layer, enum mlf_domain domain, const struct registers *caller)
{
	uint32_t judged = weight_x1024 && is_wanted(domain) ? focus_ask(weight_x1024, domain, caller) : 0;
	uint32_t *inside = from->was_sampled || judged ? tracer_enter() : NULL;
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
	tracer_leave(inside);
}

// ---- mappings --------------------------------------------------------------------------------------

void tracer_mapped(void *start, size_t bytes, const struct registers *caller)
{
	uint32_t *inside = sampler_self.busy || !is_wanted(MLF_DOMAIN_MMAP) ? NULL : tracer_enter();
	if (!inside)
		return;
	if (unlikely(focus_is_new(recording.header)))
		focus_look(recording.header, &tracer_gate.interval);
	uint32_t drawn = (uint32_t)load_relaxed(&recording.header->effective) != SAMPLER_OFF ? SAMPLER_WEIGHT_ONE : 0;
	uint32_t judged = focus_judge(drawn, MLF_DOMAIN_MMAP, caller);
	if (judged)
		mappings_record(start, bytes, caller, focus_note(recording.header, judged));
	tracer_leave(inside);
}

void tracer_unmapping(void *start, size_t bytes, struct mappings_cut *out)
{
	out->count = 0;
	uint32_t *inside = regions_any() || pools_regions_any() ? tracer_enter() : NULL;
	if (!inside)
		return;
	mappings_cut(start, bytes, false, out);
	if (pools_regions_any())
		owners_unmapping((uintptr_t)start, (uintptr_t)start + bytes);
	tracer_leave(inside);
}

void tracer_unmap_failed(const struct mappings_cut *unmapped)
{
	uint32_t *inside = unmapped->count ? tracer_enter() : NULL;
	if (!inside)
		return;
	mappings_put_back(unmapped);
	tracer_leave(inside);
}
