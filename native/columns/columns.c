// columns.c -- many numbers of a recording at once: the module memleak._columns
//
// Context:   Python's, in whatever process reads a recording. Nothing here knows the core.
// Invariant: every offset is checked against the bytes before they are read, and no loop is longer than these: a recording is hostile.
// Why:       of 20,000 stacks the first row is asked for in 50 ms; one by one Python takes that long for the live samples alone.
// Proof:     tests/unit/test_columns.py, tests/fuzz/fuzz_columns.c
#include "columns.h"

// Of CPython 3.12 and 3.13: earlier headers do not know them.
#define SLOT_MULTIPLE_INTERPRETERS 3
#define SLOT_GIL 4
#define OWN_GIL_SUPPORTED ((void *)2)
#define GIL_NOT_USED ((void *)1)

uint64_t *numbers_of(PyObject *iterable, Py_ssize_t *count, bool *odd)
{
	PyObject *list = PyList_CheckExact(iterable) ? iterable : PySequence_List(iterable);
	if (!list)
		return NULL;
	if (list == iterable)
		Py_INCREF(list);
	*count = PyList_Size(list);
	*odd = false;
	uint64_t *found = PyMem_Malloc(((size_t)*count + 1) * sizeof(*found));
	if (!found)
		PyErr_NoMemory();
	for (Py_ssize_t i = 0; found && i < *count; i++) {
		found[i] = PyLong_AsUnsignedLongLong(PyList_GetItem(list, i));
		if (found[i] == UINT64_MAX && PyErr_Occurred()) {
			if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
				PyErr_Clear();
				*odd = true;
				found[i] = 0;
			} else {
				PyMem_Free(found);
				found = NULL;
			}
		}
	}
	Py_DECREF(list);
	return found;
}

#define PROBES_MOST 64

int all_different(const uint64_t *numbers, Py_ssize_t count)
{
	if (count > (Py_ssize_t)UINT32_MAX / 4)
		return 0;
	int bits = 4;
	while ((Py_ssize_t)1 << bits < 2 * count)
		bits++;
	// A place holds 1 + the index of a number.
	uint32_t *places = zeroed((size_t)1 << bits, sizeof(*places));
	if (!places)
		return -1;
	int different = 1;
	for (Py_ssize_t i = 0; different && i < count; i++) {
		size_t at = (size_t)(numbers[i] * 0x9E3779B97F4A7C15ULL >> (64 - bits));
		int probes = 0;
		while (places[at] && numbers[places[at] - 1] != numbers[i] && ++probes < PROBES_MOST)
			at = (at + 1) & (((size_t)1 << bits) - 1);
		different = !places[at];
		places[at] = (uint32_t)i + 1;
	}
	PyMem_Free(places);
	return different;
}

static PyMethodDef functions[] = {
	{"fields", columns_fields, METH_VARARGS,
	 "fields(raw, refs, places): for each (offset, width) of *places* the numbers that stand there behind each reference."},
	{"rows", columns_rows, METH_VARARGS,
	 "rows(raw, words): references of the rows that words of the row index lead to, and the bytes of these; None when a word leads to\n"
	 "none, or two to one."},
	{"stacks", columns_stacks, METH_VARARGS,
	 "stacks(raw, refs, kind, frames_most): bytes of the different stacks of a kind, frames of all, whether two may have one key, and a\n"
	 "bit for each reference, 1 for theirs; None when one is not there."},
	{"stand", columns_stand, METH_VARARGS, "stand(raw, refs, kind, least): whether records of a kind and length are all there."},
	{"distinct", columns_distinct, METH_VARARGS,
	 "distinct(raw, refs, offset): whether the 8 bytes behind references are all different; False also when that was not found out."},
	{"live", columns_live, METH_VARARGS,
	 "live(raw, offset, capacity): rows, sizes, weights, births, threads and layers of the samples of a live set that are whole, as bytes\n"
	 "of IQIIIB, how many are not, and how many lie beyond the end."},
	{"at", columns_at, METH_VARARGS, "at(rows, ref): the numbers of the samples of a row."},
	{"owners", columns_owners, METH_VARARGS,
	 "owners(refs, rows, limit): for each sample the index of its row in *refs*, as bytes of I; None when there is none, when rows overlap,\n"
	 "or one lies beyond the reference *limit*."},
	{"sums", columns_sums, METH_VARARGS,
	 "sums(owners, count, sizes, weights): for each of *count* rows the sum of sizes times weights; ones in place of None."},
	{"squares", columns_squares, METH_VARARGS,
	 "squares(owners, count, sizes, weights): the same of the squares of these, each with as many bits as it takes."},
	{"order", columns_order, METH_VARARGS,
	 "order(values, numbers): *numbers* in the order of values[number], the greatest first, equal ones as they stood; None when a value\n"
	 "has more than 64 bits."},
	{"places", columns_places, METH_VARARGS,
	 "places(raw, offset, frames, names): for each word of a native stack the name of its module, 10 bytes each by number and the first\n"
	 "of those that are not known, and its address, 6 bytes."},
	{"history", columns_history, METH_VARARGS,
	 "history(raw, offset, levels, slots, unit_cs, level_shift, end_cs): (cs, value) of the words of a history, the oldest first."},
	{"lines", columns_lines, METH_VARARGS,
	 "lines(kind, table, first_line, cut): where ranges of instructions with one line begin, as bytes of I, and their lines, as bytes\n"
	 "of i; -1 where there is none."},
	{NULL, NULL, 0, NULL},
};

PyMODINIT_FUNC PyInit__columns(void)
{
	static PyModuleDef_Slot slots[3];
	static PyModuleDef definition = {
		PyModuleDef_HEAD_INIT, "memleak._columns", "Many numbers of a recording at once.", 0, functions, slots, NULL, NULL, NULL,
	};
	int n = 0;
	PyObject *version = PySys_GetObject("hexversion");
	if (version && PyLong_AsLong(version) >= 0x030C0000)
		slots[n++] = (PyModuleDef_Slot){SLOT_MULTIPLE_INTERPRETERS, OWN_GIL_SUPPORTED};
#ifdef Py_GIL_DISABLED
	slots[n++] = (PyModuleDef_Slot){SLOT_GIL, GIL_NOT_USED};
#endif
	return PyModuleDef_Init(&definition);
}
