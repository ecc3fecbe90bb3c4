// gauges.c -- business counts beside which live bytes are read: names, values, and their history in the file
//
// Context:   gauges_write(), gauges_keep() and gauges_add() are sampled, the rest is cold.
// Invariant: a name has one number, for the life of the process. What is kept here is the last value set; a recording's record follows
//            it: whoever has written a value looks again whether it is still the one kept, so of threads that
//            set at once the last to store is the last to be written. Values lie in a page that the kernel zeroes in a
//            forked child: they counted what is its parent's.
// Why:       values are set before there is a recording, and after one was stopped. Readers write into slots of their own, the
//            segment of order 0: they have no compare-and-swap, so they never claim what the program may claim.
// Proof:     tests/native/test_gauges.c; tests/integration/test_gauges.py
#include "gauges.h"

#include "atomics.h"
#include "clock.h"
#include "recording.h"
#include "rows.h"
#include "stats.h"
#include "sys.h"

#define TRIES 64

struct name {
	uint64_t key;   // claims the number; 0: not given
	uint32_t bytes; // stored when the text is there; 0: not yet
	char text[MLF_GAUGE_NAME_BYTES];
};

struct kept {
	int64_t value;
	uint64_t is_set;
};
_Static_assert(MLF_GAUGES * sizeof(struct kept) <= PAGE_BYTES, "one page is wiped");

static struct name names[MLF_GAUGES];
static struct kept *kept; // MLF_GAUGES of them

// ---- names ---------------------------------------------------------------------------------------

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

static bool is_name(const char *text, size_t bytes)
{
	if (!bytes || bytes > MLF_GAUGE_NAME_BYTES || !is_letter(text[0]))
		return false;
	for (size_t i = 1; i < bytes; i++)
		if (!is_letter(text[i]) && !(text[i] >= '0' && text[i] <= '9') && text[i] != '.' && text[i] != ':' && text[i] != '/' &&
		    text[i] != '-')
			return false;
	return true;
}

// 64 bits that stand for the name.
static uint64_t key_of(const char *text, size_t bytes)
{
	uint64_t key = bytes * MLF_CHECK_3;
	for (size_t i = 0; i < bytes; i++) {
		key = (key ^ (unsigned char)text[i]) * MLF_CHECK_1;
		key ^= key >> 29;
	}
	return key ? key : 1;
}

static bool have_values(void)
{
	struct kept *seen = load_acquire(&kept); // pairs with the exchange below
	if (seen)
		return true;
	struct kept *made = sys_private_pages(PAGE_BYTES);
	if (!made)
		return false;
	sys_madvise(made, PAGE_BYTES, MADV_WIPEONFORK); // refused by a kernel on which nothing is traced either
	if (!cas_acq_rel(&kept, &seen, made))
		sys_munmap(made, PAGE_BYTES);
	return true;
}

uint32_t gauges_number(const char *text, size_t bytes)
{
	if (!is_name(text, bytes))
		return 0;
	uint64_t key = key_of(text, bytes);
	for (uint32_t i = 0; have_values() && i < MLF_GAUGES; i++) {
		struct name *name = &names[i];
		uint64_t found = load_acquire(&name->key);
		if (!found && cas_acq_rel(&name->key, &found, key)) {
			__builtin_memcpy(name->text, text, bytes);
			store_release(&name->bytes, (uint32_t)bytes); // pairs with record_of()
			return i + 1;
		}
		if (found == key)
			return i + 1;
	}
	count(gauge_full);
	return 0;
}

uint32_t gauges_given(void)
{
	uint32_t n = 0;
	while (n < MLF_GAUGES && load_relaxed(&names[n].key))
		n++;
	return n;
}

// ---- values --------------------------------------------------------------------------------------

static struct kept *kept_of(uint32_t number)
{
	struct kept *all = load_acquire(&kept); // pairs with have_values()
	return likely(number - 1 < MLF_GAUGES && all && load_relaxed(&names[number - 1].key)) ? &all[number - 1] : NULL;
}

bool gauges_keep(uint32_t number, int64_t value)
{
	struct kept *mine = kept_of(number);
	if (unlikely(!mine))
		return false;
	store_relaxed(&mine->value, value); // see gauges_write()
	if (unlikely(!load_relaxed(&mine->is_set)))
		store_release(&mine->is_set, 1); // pairs with is_set()
	return true;
}

bool gauges_add(uint32_t number, int64_t more)
{
	struct kept *mine = kept_of(number);
	if (unlikely(!mine))
		return false;
	add_relaxed(&mine->value, more);
	if (unlikely(!load_relaxed(&mine->is_set)))
		store_release(&mine->is_set, 1); // pairs with is_set()
	return true;
}

static bool is_set(const struct kept *mine) { return mine && load_acquire(&mine->is_set); } // pairs with the two above

bool gauges_value(uint32_t number, int64_t *value)
{
	struct kept *mine = kept_of(number);
	if (!is_set(mine))
		return false;
	*value = load_relaxed(&mine->value);
	return true;
}

// ---- in the recording ----------------------------------------------------------------------------

// A value in 40 bits: sign, exponent, 33 bits. Exact up to 8.6e9.
static uint64_t history_value(int64_t value)
{
	uint64_t sign = value < 0, magnitude = sign ? -(uint64_t)value : (uint64_t)value;
	uint64_t exponent = magnitude >> MLF_GAUGE_MANTISSA_BITS
				? 64 - MLF_GAUGE_MANTISSA_BITS - (unsigned)__builtin_clzll(magnitude)
				: 0;
	return sign << MLF_GAUGE_SIGN_BIT | exponent << MLF_GAUGE_MANTISSA_BITS | magnitude >> exponent;
}

static struct mlf_gauge *record_of(uint32_t number)
{
	const struct name *name = &names[number - 1];
	unsigned order = 1 + (number - 1) / MLF_GAUGES_EACH; // 0 is the readers'
	const struct recording_table *table = recording_segment(MLF_KIND_GAUGES, order);
	if (unlikely(!table)) {
		if (!recording_add_segment(MLF_KIND_GAUGES, order, MLF_GAUGES_EACH, sizeof(struct mlf_gauge)))
			return NULL;
		table = recording_segment(MLF_KIND_GAUGES, order);
	}
	struct mlf_gauge *record = (struct mlf_gauge *)(void *)table->base + (number - 1) % MLF_GAUGES_EACH;
	uint32_t state = load_acquire(&record->state), bytes = load_acquire(&name->bytes); // pairs with gauges_number()
	if (likely(state) || !bytes || !cas_acq_rel(&record->state, &state, MLF_GAUGE_CLAIMED))
		return record;
	record->name_bytes = bytes;
	__builtin_memcpy(record->name, name->text, bytes);
	store_release(&record->state, MLF_GAUGE_NAMED); // pairs with readers of the file
	return record;
}

// Relaxed: each word is a fact of its own.
static void note_history(struct mlf_gauge *record, int64_t before, int64_t after, uint32_t now_cs)
{
	uint32_t tick = 1 + now_cs / MLF_HISTORY_UNIT_CS, last = load_relaxed(&record->tick);
	if (tick != last) {
		// Whoever moves the tick closes the periods that ended, as of rows.
		if (tick < last || !cas_relaxed(&record->tick, &last, tick))
			return;
		for (unsigned level = 0; last && level < MLF_HISTORY_LEVELS; level++)
			rows_write_slot(record->slot, level, last, history_value(before));
	}
	rows_write_slot(record->slot, 0, tick, history_value(after));
}

static void note(struct mlf_gauge *record, int64_t value)
{
	uint32_t now_cs = clock_now_cs();
	bool was_set = load_relaxed(&record->first_cs);
	int64_t before = exchange_acq_rel(&record->value, value); // pairs with itself: see gauges_write()
	store_relaxed(&record->set_cs, now_cs);
	if (was_set && before == value)
		return;
	if (unlikely(!was_set))
		store_relaxed(&record->first_cs, now_cs);
	store_relaxed(&record->changed_cs, now_cs);
	note_history(record, before, value, now_cs);
}

void gauges_write(uint32_t number)
{
	const struct kept *mine = kept_of(number);
	struct mlf_gauge *record = mine ? record_of(number) : NULL;
	if (unlikely(!record)) {
		count(gauge_full);
		return;
	}
	if (!is_set(mine))
		return;
	// Of two that are here at once, the one whose exchange comes second has seen what the other had stored before its own.
	int64_t value;
	int tries = 0;
	do
		note(record, value = load_relaxed(&mine->value));
	while (unlikely(load_relaxed(&mine->value) != value) && ++tries < TRIES);
}

void gauges_adopt(void)
{
	const struct recording_table *table = recording_segment(MLF_KIND_GAUGES, 0);
	for (uint32_t i = 0; table && i < table->capacity; i++) {
		const struct mlf_gauge *record = (const struct mlf_gauge *)(const void *)table->base + i;
		char text[MLF_GAUGE_NAME_BYTES];
		uint32_t bytes = load_relaxed(&record->name_bytes);
		if (load_acquire(&record->state) != MLF_GAUGE_NAMED || bytes > sizeof(text)) // pairs with who wrote it
			continue;
		__builtin_memcpy(text, record->name, bytes);
		uint32_t number = gauges_number(text, bytes);
		int64_t value;
		if (number && !gauges_value(number, &value) && load_relaxed(&record->first_cs))
			gauges_keep(number, load_relaxed(&record->value));
	}
}
