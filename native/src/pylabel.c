// pylabel.c -- which set of labels Python code is under
//
// Context:   pylabel_of() is sampled; learning is cold, and with the GIL.
// Invariant: only this thread's own context is read: no other thread enters it, sets a variable in it, or drops it. Maps and their
//            nodes never change once made, and a map holds on to them and to its values.
// Why:       a context variable is what already follows tasks, greenlets and copied contexts; a call into Python from within
//            malloc is what cannot be. The variable's own cache belongs to whoever has the GIL. docs/adr/0020-labels.md
// Proof:     tests/integration/test_labels.py, tests/native/test_pylabel.c
#include "pylabel.h"

#include "atomics.h"
#include "memleak_format.h"

#define LEVEL_BITS 5U
#define LEVELS_BITS 32U // of the hash, 5 on each level

static struct pylabel_variable known;
static uintptr_t bitmap_type, array_type; // of nodes; 0: not met yet
static enum mlf_labels state;             // the above is set before it says FOLLOWED

enum mlf_labels pylabel_state(void) { return load_acquire(&state); } // pairs with pylabel_learn()

static uintptr_t word_at(uintptr_t object, unsigned offset) { return *(const uintptr_t *)(object + offset); }

// The compiler's own is a call where the instruction is not taken for granted.
static unsigned bits_set(uint32_t bits)
{
	bits -= bits >> 1 & 0x55555555U;
	bits = (bits & 0x33333333U) + (bits >> 2 & 0x33333333U);
	bits = (bits + (bits >> 4)) & 0x0F0F0F0FU;
	return bits * 0x01010101U >> 24;
}

static uintptr_t root_of(uintptr_t thread)
{
	uintptr_t context = word_at(thread, pyruntime.layout->thread_context);
	uintptr_t map = context ? word_at(context, PYLAYOUT_CONTEXT_MAP) : 0;
	return map ? word_at(map, PYLAYOUT_MAP_ROOT) : 0;
}

// The variable's value below a node; 0: it has none.
static uintptr_t find(uintptr_t node)
{
	for (unsigned shift = 0; node && node % 8 == 0 && shift < LEVELS_BITS; shift += LEVEL_BITS) {
		uint32_t at = known.hash >> shift & 31;
		uintptr_t type = word_at(node, PYLAYOUT_OBJECT_TYPE);
		if (type == array_type) {
			node = word_at(node, PYLAYOUT_ARRAY_NODES + at * 8);
			continue;
		}
		uint32_t bits = type == bitmap_type ? *(const uint32_t *)(node + PYLAYOUT_BITMAP_BITS) : 0;
		if (!(bits >> at & 1))
			return 0;
		uintptr_t pair = node + PYLAYOUT_BITMAP_PAIRS + 16UL * bits_set(bits & ((1U << at) - 1));
		uintptr_t key = word_at(pair, 0), value = word_at(pair, 8);
		if (key)
			return key == known.variable ? value : 0;
		node = value;
	}
	return 0;
}

static struct pylabel found_below(uintptr_t root)
{
	static const struct pylabel nothing;
	uintptr_t value = find(root);
	if (!value || value % 8 || word_at(value, PYLAYOUT_OBJECT_TYPE) != known.type)
		return nothing;
	// Relaxed, one word: another thread may give the number that the set has with its outcome.
	const struct pylabel_value *said = (const void *)(value + known.number_offset);
	uint64_t word = load_relaxed((const uint64_t *)(const void *)&said->label);
	struct pylabel found = {(uint32_t)word, (uint32_t)(word >> 32)};
	if (!found.number && said->kept)
		found.number = load_relaxed(&((const struct pylabel_value *)(said->kept + known.number_offset))->label.number);
	return found.number <= MLF_LABEL_OTHER ? found : nothing;
}

struct pylabel pylabel_of(uintptr_t thread)
{
	return pylabel_state() == MLF_LABELS_FOLLOWED ? found_below(root_of(thread)) : (struct pylabel){0, 0};
}

enum pylabel_outcome pylabel_learn(uintptr_t thread, const struct pylabel_variable *variable, uint32_t expected)
{
	if (load_relaxed(&state) == MLF_LABELS_SELF_TEST_FAILED)
		return PYLABEL_WRONG;
	uintptr_t root = root_of(thread), type = root && root % 8 == 0 ? word_at(root, PYLAYOUT_OBJECT_TYPE) : 0;
	if (!bitmap_type)
		bitmap_type = type; // a node for few
	else if (!array_type && type != bitmap_type)
		array_type = type;
	known = *variable;
	if (!expected || found_below(root).number != expected) {
		store_release(&state, MLF_LABELS_SELF_TEST_FAILED);
		return PYLABEL_WRONG;
	}
	if (!array_type)
		return PYLABEL_MORE;
	store_release(&state, MLF_LABELS_FOLLOWED);
	return PYLABEL_DONE;
}
