// history.c -- what a row held at earlier moments, from the words of its history
//
// Context:   as columns.c.
// Invariant: a history has at most 4096 words, and time is in proportion to n log n of these.
// Why:       each of 20,000 rows has one of 96 words, nearly all of them empty, and SQL over `history` wants all.
// Proof:     tests/unit/test_columns.py, against a model in Python; tests/unit/test_recording.py
#include "columns.h"

#include <limits.h>
#include <stdlib.h>

#define WORDS_MOST 4096
#define TICKS_SHIFT_MOST 64 // beyond it a period is longer than any recording says that it is, and still runs

__extension__ typedef __int128 ticks_t; // a hostile recording ends after 2^64 cs

struct point {
	uint64_t cs, value;
	uint32_t rank; // of two at one moment that of the higher one counts
};

struct clock {
	uint32_t levels, slots, unit_cs, shift;
	uint64_t end_cs;
};

static int compare(const void *one, const void *other)
{
	const struct point *a = one, *b = other;
	if (a->cs != b->cs)
		return a->cs < b->cs ? -1 : 1;
	return a->rank < b->rank ? -1 : a->rank > b->rank;
}

static ticks_t in_level(ticks_t ticks, const struct clock *clock, uint32_t level)
{
	uint64_t shift = (uint64_t)level * clock->shift;
	return shift > TICKS_SHIFT_MOST ? 0 : ticks >> shift;
}

// The number of the latest period, up to now, that a word is of; -1: it is of none.
static ticks_t period_of(uint64_t word, uint32_t index, const struct clock *clock)
{
	uint64_t tag = word >> MLF_HISTORY_VALUE_BITS;
	if (!tag)
		return -1;
	ticks_t now = in_level((ticks_t)1 + clock->end_cs / clock->unit_cs, clock, index / clock->slots); // ticks count from 1
	ticks_t back = (now - (ticks_t)(tag - 1)) % MLF_HISTORY_TAG_MASK;
	ticks_t period = now - (back < 0 ? back + MLF_HISTORY_TAG_MASK : back);
	return period >= 0 && period % clock->slots == index % clock->slots ? period : -1;
}

// A word says what the value was when its period ended, so one that is still running counts as ending now.
static uint64_t end_of(ticks_t period, const struct clock *clock, uint32_t level)
{
	uint64_t shift = (uint64_t)level * clock->shift;
	if (shift > TICKS_SHIFT_MOST || period + 1 > (ticks_t)clock->end_cs >> shift)
		return clock->end_cs; // a tick has at least 1 cs
	ticks_t ends = (((period + 1) << shift) - 1) * clock->unit_cs;
	return ends < (ticks_t)clock->end_cs ? (uint64_t)ends : clock->end_cs;
}

static Py_ssize_t read_points(const char *words, const struct clock *clock, struct point *points)
{
	uint32_t number = clock->levels * clock->slots;
	ticks_t latest = -1; // period of the finest level
	for (uint32_t i = 0; i < clock->slots; i++) {
		ticks_t period = period_of(word_at(words + 8 * i), i, clock);
		latest = period > latest ? period : latest;
	}
	Py_ssize_t count = 0;
	// Where levels overlap, the finer one is believed: the coarser ones are written when the next tick begins, so of the tick of
	// the latest change they do not know yet.
	for (uint32_t i = number; i-- > 0;) {
		uint64_t word = word_at(words + 8 * i);
		ticks_t period = word ? period_of(word, i, clock) : -1;
		uint32_t level = i / clock->slots;
		if (period < 0 || (level && latest >= 0 && period == in_level(latest, clock, level)))
			continue;
		uint64_t value = word & ((1ULL << MLF_HISTORY_VALUE_BITS) - 1);
		points[count] = (struct point){end_of(period, clock, level), value, (uint32_t)count};
		count++;
	}
	qsort(points, (size_t)count, sizeof(*points), compare);
	Py_ssize_t kept = 0;
	for (Py_ssize_t i = 0; i < count; i++)
		if (i + 1 == count || points[i + 1].cs != points[i].cs)
			points[kept++] = points[i];
	return kept;
}

static PyObject *tuple_of(const struct point *points, Py_ssize_t count)
{
	PyObject *found = PyTuple_New(count);
	for (Py_ssize_t i = 0; found && i < count; i++) {
		PyObject *pair = Py_BuildValue("(KK)", (unsigned long long)points[i].cs, (unsigned long long)points[i].value);
		if (!pair || PyTuple_SetItem(found, i, pair) < 0)
			Py_CLEAR(found);
	}
	return found;
}

PyObject *columns_history(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *bytes;
	struct view raw;
	Py_ssize_t offset, levels, slots, unit, shift;
	PyObject *number;
	if (!PyArg_ParseTuple(args, "SnnnnnO", &bytes, &offset, &levels, &slots, &unit, &shift, &number) || !view_of(bytes, &raw))
		return NULL;
	unsigned long long end = PyLong_AsUnsignedLongLong(number);
	if (end == ULLONG_MAX && PyErr_Occurred())
		return NULL;
	if (levels < 1 || slots < 1 || levels > WORDS_MOST || slots > WORDS_MOST / levels || unit < 1 || unit > (Py_ssize_t)UINT32_MAX ||
	    shift < 0 || shift > 64) {
		PyErr_SetString(PyExc_ValueError, "no history is of that form");
		return NULL;
	}
	Py_ssize_t wanted = 8 * levels * slots;
	if (offset < 0 || wanted > raw.bytes || offset > raw.bytes - wanted) {
		PyErr_SetString(PyExc_IndexError, "a history lies outside of the recording");
		return NULL;
	}
	struct clock clock = {(uint32_t)levels, (uint32_t)slots, (uint32_t)unit, (uint32_t)shift, end};
	struct point *points = PyMem_Malloc((size_t)(levels * slots) * sizeof(*points));
	if (!points)
		return PyErr_NoMemory();
	PyObject *found = tuple_of(points, read_points(raw.data + offset, &clock, points));
	PyMem_Free(points);
	return found;
}
