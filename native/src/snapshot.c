// snapshot.c -- which loaded object is mapped at an address? by a sorted copy of the loader's list
//
// Context:   snapshot_find() is sampled; the rest is cold, one thread at a time.
// Invariant: a reader that was overtaken by a writer sees the sequence change, and tries again.
// Why:       glibc before 2.35 has no _dl_find_object(), and dl_iterate_phdr() takes the loader's lock, which a thread
//            inside dlclose() holds while it calls free().
// Proof:     tests/native/test_modules.c --own-snapshot
#include "snapshot.h"

#include "atomics.h"

struct span {
	uintptr_t low, high;
	uintptr_t id;
};

static struct snapshot {
	uint32_t sequence; // odd while being written
	uint32_t count;
	uint64_t generation; // of the loader's list it shows
	struct span spans[SNAPSHOT_SPANS];
} snapshots[2];
static uint32_t snapshot_current; // 1 + index of the newest; 0 = none yet

unsigned snapshot_find(uintptr_t pc, const uint64_t *generation)
{
	for (int attempt = 0; attempt < 3; attempt++) {
		uint32_t current = load_acquire(&snapshot_current); // pairs with snapshot_publish()
		if (current == 0)
			return 0;
		const struct snapshot *s = &snapshots[current - 1];
		uint32_t sequence = load_acquire(&s->sequence);
		if (sequence & 1)
			continue;
		// Between an unload and the next refresh the ranges may be gone or somebody else's:
		// better no frames than a fault.
		if (load_relaxed(&s->generation) != load_relaxed(generation))
			return 0;
		uint32_t low = 0, high = load_relaxed(&s->count);
		while (low < high) {
			uint32_t middle = (low + high) / 2;
			if (load_acquire(&s->spans[middle % SNAPSHOT_SPANS].low) <= pc)
				low = middle + 1;
			else
				high = middle;
		}
		unsigned id = 0;
		if (low && pc < load_acquire(&s->spans[(low - 1) % SNAPSHOT_SPANS].high))
			id = (unsigned)load_acquire(&s->spans[(low - 1) % SNAPSHOT_SPANS].id);
		// The acquire loads above keep this one behind them. Pairs with snapshot_publish().
		if (load_relaxed(&s->sequence) == sequence)
			return id;
	}
	return 0;
}

// Release stores: a reader that sees one of them sees the odd sequence too. Pair: snapshot_find().
void snapshot_add(struct snapshot *s, uintptr_t low, uintptr_t high, unsigned id)
{
	uint32_t at = s->count;
	if (at == SNAPSHOT_SPANS)
		return;
	for (; at > 0 && s->spans[at - 1].low > low; at--) {
		store_release(&s->spans[at].low, s->spans[at - 1].low);
		store_release(&s->spans[at].high, s->spans[at - 1].high);
		store_release(&s->spans[at].id, s->spans[at - 1].id);
	}
	store_release(&s->spans[at].low, low);
	store_release(&s->spans[at].high, high);
	store_release(&s->spans[at].id, id);
	store_relaxed(&s->count, s->count + 1);
}

struct snapshot *snapshot_begin(void)
{
	struct snapshot *s = &snapshots[load_relaxed(&snapshot_current) == 1 ? 1 : 0];
	// Odd before any of what follows. Pairs with the loads of sequence in snapshot_find().
	exchange_acq_rel(&s->sequence, s->sequence | 1);
	store_relaxed(&s->count, 0);
	return s;
}

void snapshot_publish(struct snapshot *s, uint64_t generation)
{
	store_relaxed(&s->generation, generation);
	store_release(&s->sequence, (s->sequence | 1) + 1); // pairs with snapshot_find()
	store_release(&snapshot_current, (uint32_t)(s - snapshots) + 1);
}

bool snapshot_is_of(uint64_t generation)
{
	uint32_t current = load_relaxed(&snapshot_current);
	return current && snapshots[current - 1].generation == generation;
}
