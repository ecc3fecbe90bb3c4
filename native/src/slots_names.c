// slots_names.c -- which functions that objects call are ours
//
// Context:   cold.
// Invariant: tables are added by one thread before the first scan, and constant afterwards.
// Why:       an object has thousands of slots: one bit tells of nearly all of them that their name is none of ours.
// Proof:     tests/native/test_slots.c; tests/integration/test_slots.py
#include "slots_names.h"

#include "atomics.h"
#include "text.h"

static struct slots_table *tables;
static uint64_t filter; // one bit per hash of a name's first three characters

static uint64_t filter_bit(const char *name)
{
	unsigned hash = (unsigned char)name[0];
	for (unsigned i = 1; i < 3 && name[i - 1]; i++)
		hash = hash * 5 + (unsigned char)name[i];
	return 1ULL << (hash & 63);
}

void slots_register(struct slots_table *table)
{
	for (unsigned i = 0; i < table->count; i++)
		filter |= filter_bit(table->names[i].name);
	table->next = tables;
	tables = table;
}

bool slots_may_be_wanted(const char *name) { return filter & filter_bit(name); }

const struct slots_table *slots_find_name(const char *name, unsigned *index)
{
	if (!slots_may_be_wanted(name))
		return NULL;
	for (const struct slots_table *table = tables; table; table = table->next)
		for (*index = 0; *index < table->count; ++*index)
			if (text_equal(name, table->names[*index].name))
				return table;
	return NULL;
}

uintptr_t slots_hook_of(const struct slots_table *table, unsigned index, uintptr_t original)
{
	const struct slots_name *name = &table->names[index];
	if (name->original && load_relaxed(name->original) != original)
		return 0;
	return name->hook ? name->hook : table->choose(index, original);
}

static bool is_given(const struct slots_table *table)
{
	return table && (table->meaning == SLOTS_FAMILY || table->meaning == SLOTS_GIVEN);
}

bool slots_is_given(const char *name)
{
	unsigned index;
	return is_given(slots_find_name(name, &index));
}

uintptr_t slots_hook_for(const char *name, uintptr_t original)
{
	unsigned index;
	const struct slots_table *table = slots_find_name(name, &index);
	return is_given(table) ? slots_hook_of(table, index, original) : 0;
}
