// columns.c -- many numbers of a recording at once
//
// Context:   Python's, in whatever process reads a recording. Nothing here knows the core.
// Invariant: every offset is checked against the bytes before they are read: a recording is hostile.
// Why:       of 20,000 stacks the first row is asked for in 50 ms; one by one Python takes that long for the live samples alone.
// Proof:     tests/unit/test_columns.py, tests/fuzz/fuzz_columns.c
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../include/memleak_format.h"

#include <string.h>

// Of CPython 3.12 and 3.13: earlier headers do not know them.
#define SLOT_MULTIPLE_INTERPRETERS 3
#define SLOT_GIL 4
#define OWN_GIL_SUPPORTED ((void *)2)
#define GIL_NOT_USED ((void *)1)

// ---- gather ------------------------------------------------------------------------------------------

static uint64_t number_at(const char *at, int width)
{
	uint64_t word = 0;
	memcpy(&word, at, (size_t)width); // little endian, as recordings are
	return word;
}

static int put(PyObject *list, Py_ssize_t at, uint64_t value)
{
	PyObject *number = PyLong_FromUnsignedLongLong(value);
	return number ? PyList_SetItem(list, at, number) : -1;
}

static PyObject *gather(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *raw, *refs;
	Py_ssize_t offset, bytes;
	int width;
	char *data;
	if (!PyArg_ParseTuple(args, "SOni", &raw, &refs, &offset, &width) || PyBytes_AsStringAndSize(raw, &data, &bytes) < 0)
		return NULL;
	if (offset < 0 || (width != 4 && width != 8)) {
		PyErr_SetString(PyExc_ValueError, "numbers have 4 or 8 bytes, and stand behind a reference");
		return NULL;
	}
	PyObject *each = PyList_CheckExact(refs) ? refs : PySequence_List(refs);
	if (each == refs)
		Py_INCREF(refs);
	Py_ssize_t count = each ? PyList_Size(each) : 0;
	Py_ssize_t *places = each ? PyMem_Malloc(((size_t)count + 1) * sizeof(*places)) : NULL;
	PyObject *found = places ? PyList_New(count) : NULL;
	if (each && !places)
		PyErr_NoMemory();
	for (Py_ssize_t i = 0; found && i < count; i++) {
		unsigned long long ref = PyLong_AsUnsignedLongLong(PyList_GetItem(each, i));
		Py_ssize_t at = ref > (unsigned long long)PY_SSIZE_T_MAX / MLF_REF_BYTES ? bytes : (Py_ssize_t)ref * MLF_REF_BYTES;
		if (at > bytes - width || offset > bytes - width - at) {
			if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_OverflowError))
				PyErr_SetString(PyExc_IndexError, "a reference leads out of the recording");
			Py_CLEAR(found);
		} else {
			places[i] = at + offset;
			__builtin_prefetch(data + places[i]); // records lie apart, and were copied a while ago
		}
	}
	for (Py_ssize_t i = 0; found && i < count; i++)
		if (put(found, i, number_at(data + places[i], width)) < 0)
			Py_CLEAR(found);
	PyMem_Free(places);
	Py_XDECREF(each);
	return found;
}

// ---- the live set ------------------------------------------------------------------------------------

struct reading {
	const char *keys, *entries;
	Py_ssize_t capacity, readable; // keys and entries that lie in the bytes
	Py_ssize_t torn, beyond;
};

// True: a sample. Else it is counted, unless it is nothing at all.
static int is_sample(struct reading *reading, Py_ssize_t i, uint64_t key, struct mlf_live *entry)
{
	if (!(key & MLF_LIVE_KEY_LIVE))
		return 0;
	if (i >= reading->readable) {
		reading->beyond++;
		return 0;
	}
	if ((key >> MLF_LIVE_KEY_LAYER_SHIFT & 15) >= MLF_LAYER_NO_SAMPLE)
		return 0;
	memcpy(entry, reading->entries + i * (Py_ssize_t)sizeof(*entry), sizeof(*entry));
	uint32_t check = mlf_live_check(key, entry->size_bytes, entry->row, entry->weight_x1024, entry->born_cs, entry->thread);
	if (check != entry->check || entry->weight_x1024 < 1024) {
		reading->torn++;
		return 0;
	}
	return 1;
}

#define COLUMNS 6

static int fill(struct reading *reading, const Py_ssize_t *places, Py_ssize_t count, PyObject **columns)
{
	for (Py_ssize_t n = 0; n < count; n++) {
		uint64_t key = number_at(reading->keys + 8 * places[n], 8);
		struct mlf_live entry;
		memcpy(&entry, reading->entries + places[n] * (Py_ssize_t)sizeof(entry), sizeof(entry));
		const uint64_t values[COLUMNS] = {entry.row, entry.size_bytes, entry.weight_x1024,
						  entry.born_cs, entry.thread, key >> MLF_LIVE_KEY_LAYER_SHIFT & 15};
		for (int c = 0; c < COLUMNS; c++)
			if (put(columns[c], n, values[c]) < 0)
				return -1;
	}
	return 0;
}

static PyObject *columns_of(struct reading *reading, const Py_ssize_t *places, Py_ssize_t count)
{
	PyObject *columns[COLUMNS] = {NULL}, *found = NULL;
	int c = 0;
	while (c < COLUMNS && (columns[c] = PyList_New(count)))
		c++;
	if (c == COLUMNS && fill(reading, places, count, columns) == 0)
		found = Py_BuildValue("(OOOOOOnn)", columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], reading->torn,
				      reading->beyond);
	for (c = 0; c < COLUMNS; c++)
		Py_XDECREF(columns[c]);
	return found;
}

static PyObject *live(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *raw;
	Py_ssize_t offset, capacity, bytes, count = 0;
	char *data;
	if (!PyArg_ParseTuple(args, "Snn", &raw, &offset, &capacity) || PyBytes_AsStringAndSize(raw, &data, &bytes) < 0)
		return NULL;
	if (offset < 0 || capacity < 0 || capacity > PY_SSIZE_T_MAX / 64 || offset > PY_SSIZE_T_MAX - 8 * capacity) {
		PyErr_SetString(PyExc_ValueError, "a live set has a place and a size");
		return NULL;
	}
	Py_ssize_t keys = offset < bytes ? (bytes - offset) / 8 : 0, entries_at = offset + 8 * capacity;
	struct reading reading = {.keys = data + (offset < bytes ? offset : 0), .capacity = keys < capacity ? keys : capacity};
	if (entries_at < bytes) {
		reading.entries = data + entries_at;
		reading.readable = (bytes - entries_at) / (Py_ssize_t)sizeof(struct mlf_live);
	}
	// Torn ones are found once: the bytes do not change.
	Py_ssize_t *places = PyMem_Malloc(((size_t)reading.capacity + 1) * sizeof(*places));
	if (!places)
		return PyErr_NoMemory();
	struct mlf_live entry;
	for (Py_ssize_t i = 0; i < reading.capacity; i++) {
		uint64_t key = number_at(reading.keys + 8 * i, 8);
		if (key && is_sample(&reading, i, key, &entry))
			places[count++] = i;
	}
	PyObject *found = columns_of(&reading, places, count);
	PyMem_Free(places);
	return found;
}

// ---- the module ----------------------------------------------------------------------------------------

static PyMethodDef functions[] = {
	{"gather", gather, METH_VARARGS, "gather(raw, refs, offset, width): the number that stands *offset* bytes behind each reference."},
	{"live", live, METH_VARARGS,
	 "live(raw, offset, capacity): rows, sizes, weights, births, threads and layers of the samples of a live set that are whole, how\n"
	 "many are not, and how many lie beyond the end."},
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
