// index.c -- key -> record, insert-only, over the segments of one kind
//
// Context:   sampled. Any thread; a thread stopped anywhere stops no other.
// Invariant: a word goes from 0 to its value once and never changes; the record behind it was whole
//            before. A key stands within MLF_INDEX_WINDOW words of its place in some segment.
// Why:       a bounded window instead of "probe until empty" keeps the cost bounded at any load and
//            needs no count of entries: a full window moves on to the next, doubled segment.
// Proof:     tests/native/test_index.c; tests/models/index.pml
#include "index.h"

#include "recording.h"

static uint64_t word_of(uint64_t key, uint32_t ref) { return (key & 0xFFFFFFFF00000000ULL) | ref; }

static bool word_is(uint64_t word, uint64_t key)
{
	if ((word ^ key) >> 32)
		return false;
	const uint64_t *record = recording_at((uint32_t)word);
	prefetch_write(record + 8); // a row's counters are on its second line, too
	return record[1] == key;
}

uint32_t index_find(enum mlf_kind kind, uint64_t key)
{
	for (unsigned order = recording_segments(kind); order-- > 0;) { // the largest first: it holds half of them
		const struct recording_table *table = recording_segment(kind, order);
		const uint64_t *words = (const uint64_t *)(const void *)table->base;
		for (unsigned i = 0; i < MLF_INDEX_WINDOW; i++) {
			// Acquire: pairs with the CAS in index_insert(); the record is whole.
			uint64_t word = load_acquire(&words[(key + i) & (table->capacity - 1)]);
			if (word == 0)
				break;
			if (word_is(word, key))
				return (uint32_t)word;
		}
	}
	return 0;
}

uint32_t index_insert(enum mlf_kind kind, uint64_t key, uint32_t ref)
{
	uint64_t word = word_of(key, ref);
	for (unsigned order = 0;; order++) {
		const struct recording_table *table = recording_segment(kind, order);
		if (!table) {
			uint32_t last = order ? recording_segment(kind, order - 1)->capacity : 512;
			if (!recording_add_segment(kind, order, last * 2, sizeof(uint64_t)))
				return 0;
			table = recording_segment(kind, order);
		}
		uint64_t *words = (uint64_t *)(void *)table->base;
		for (unsigned i = 0; i < MLF_INDEX_WINDOW; i++) {
			uint64_t *place = &words[(key + i) & (table->capacity - 1)];
			uint64_t seen = load_acquire(place);
			// Release: pairs with index_find() and with readers of the file.
			if (seen == 0 && cas_acq_rel(place, &seen, word))
				return ref;
			if (word_is(seen, key))
				return (uint32_t)seen;
		}
	}
}
