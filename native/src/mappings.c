// mappings.c -- which mappings are live, and what becomes of them when a part goes
//
// Context:   sampled; between tracer_enter() and tracer_leave().
// Invariant: a region stands for a live sample at its first address, and no two overlap.
// Why:       munmap() takes any pages, not blocks: what is left of a mapping goes on as one or two of its own.
// Proof:     tests/native/test_regions.c; tests/integration/test_mmap.py
#include "mappings.h"

#include "clock.h"
#include "recording.h"
#include "regions.h"
#include "rows.h"
#include "sampler.h"
#include "samples.h"
#include "stats.h"
#include "sys.h"
#include "thinning.h"

static void keep_piece(uintptr_t start, uintptr_t end, struct live_sample sample)
{
	if (start >= end)
		return;
	sample.size_bytes = end - start;
	struct liveset_place place;
	if (thinning_insert((void *)start, MLF_LAYER_MMAP, &sample, &place, clock_now_cs())) {
		if (regions_add((struct region){start, end}))
			return;
		liveset_remove((void *)start, MLF_LAYER_MMAP, &sample); // nothing would ever find it again
	}
	count(region_full);
	rows_remove(samples_row(sample.row), sample.size_bytes, sample.weight_x1024, clock_now_cs());
}

void mappings_cut(void *start, size_t bytes, bool lost, struct mappings_cut *out)
{
	out->count = 0;
	struct region wanted = {(uintptr_t)start, (uintptr_t)start + round_up(bytes, PAGE_BYTES)}, region;
	uint32_t now_cs = clock_now_cs();
	// Bounded: each turn takes one region out, and what is put back no longer overlaps.
	while (regions_take_overlap(wanted, &region)) {
		struct live_sample sample;
		if (!liveset_remove((void *)region.start, MLF_LAYER_MMAP, &sample))
			continue;
		uintptr_t cut_start = region.start > wanted.start ? region.start : wanted.start;
		uintptr_t cut_end = region.end < wanted.end ? region.end : wanted.end;
		bool head = cut_start > region.start, tail = cut_end < region.end;
		struct mlf_row *row = samples_row(sample.row);
		if (!head && !tail) {
			samples_close(&sample, lost);
		} else {
			if (lost)
				count(lost);
			rows_shrink(row, cut_end - cut_start, now_cs);
			if (head && tail) // one mapping becomes two
				rows_add(row, 0, SAMPLER_WEIGHT_ONE, now_cs);
		}
		keep_piece(region.start, cut_start, sample);
		keep_piece(cut_end, region.end, sample);
		if (out->count < MAPPINGS_CUT_KEPT) {
			out->recording = recording.number;
			out->piece[out->count].start = cut_start;
			out->piece[out->count].bytes = cut_end - cut_start;
			out->piece[out->count].sample = sample;
		}
		out->count++;
	}
}

void mappings_record(void *start, size_t bytes, const struct registers *caller, enum samples_payer payer)
{
	// What we still hold for live there was unmapped past us: two regions at one place would
	// later be cut as if both were there.
	struct mappings_cut unseen;
	if (regions_any())
		mappings_cut(start, bytes, true, &unseen);
	if (!samples_record(start, &(struct live_sample){.size_bytes = bytes, .weight_x1024 = SAMPLER_WEIGHT_ONE}, MLF_LAYER_MMAP,
		    MLF_DOMAIN_MMAP, caller, payer))
		return;
	if (!regions_add((struct region){(uintptr_t)start, (uintptr_t)start + bytes})) {
		count(region_full);
		samples_forget(start, MLF_LAYER_MMAP, false);
	}
}

void mappings_put_back(const struct mappings_cut *cut)
{
	for (unsigned i = 0; i < cut->count; i++) {
		if (i >= MAPPINGS_CUT_KEPT) {
			count(lost);
			continue;
		}
		if (cut->recording != recording.number)
			continue;
		struct live_sample sample = cut->piece[i].sample;
		uintptr_t start = cut->piece[i].start;
		rows_add(samples_row(sample.row), cut->piece[i].bytes, sample.weight_x1024, clock_now_cs());
		keep_piece(start, start + cut->piece[i].bytes, sample);
	}
}
