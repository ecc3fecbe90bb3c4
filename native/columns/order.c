// order.c -- numbers in the order of what belongs to them
//
// Context:   as columns.c.
// Invariant: eight passes over the numbers, whatever the values.
// Why:       rows are shown the greatest first, and 20,000 compared as Python's integers take longer than all sums.
// Proof:     tests/unit/test_columns.py
#include "columns.h"

struct item {
	uint64_t value;
	Py_ssize_t at;
};

// Leaves the order in one of two arrays, and returns which.
static struct item *sorted(struct item *items, struct item *other, Py_ssize_t count)
{
	for (int shift = 0; shift < 64; shift += 8) {
		Py_ssize_t places[257] = {0};
		for (Py_ssize_t i = 0; i < count; i++)
			places[1 + (items[i].value >> shift & 255)]++;
		if (count && places[1 + (items[0].value >> shift & 255)] == count)
			continue; // all alike
		for (int digit = 1; digit < 256; digit++)
			places[digit] += places[digit - 1];
		for (Py_ssize_t i = 0; i < count; i++)
			other[places[items[i].value >> shift & 255]++] = items[i];
		struct item *swapped = items;
		items = other;
		other = swapped;
	}
	return items;
}

static PyObject *ordered(PyObject *numbers, const uint64_t *values, Py_ssize_t known, const uint64_t *indices, Py_ssize_t count)
{
	struct item *items = PyMem_Malloc(((size_t)count + 1) * 2 * sizeof(*items));
	if (!items)
		return PyErr_NoMemory();
	PyObject *found = PyList_New(count);
	for (Py_ssize_t i = 0; found && i < count; i++) {
		if (indices[i] < (uint64_t)known) {
			items[i] = (struct item){~values[indices[i]], i}; // the greatest first
		} else {
			PyErr_SetString(PyExc_IndexError, "a number has no value");
			Py_CLEAR(found);
		}
	}
	const struct item *order = found ? sorted(items, items + count, count) : NULL;
	for (Py_ssize_t i = 0; found && i < count; i++) {
		PyObject *number = PyList_GetItem(numbers, order[i].at);
		Py_XINCREF(number);
		if (!number || PyList_SetItem(found, i, number) < 0)
			Py_CLEAR(found);
	}
	PyMem_Free(items);
	return found;
}

PyObject *columns_order(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *of_values, *numbers, *found = NULL;
	Py_ssize_t known, count;
	bool wide, odd;
	if (!PyArg_ParseTuple(args, "OO!", &of_values, &PyList_Type, &numbers))
		return NULL;
	uint64_t *values = numbers_of(of_values, &known, &wide), *indices = values ? numbers_of(numbers, &count, &odd) : NULL;
	if (indices && wide) {
		Py_INCREF(Py_None);
		found = Py_None;
	} else if (indices && odd) {
		PyErr_SetString(PyExc_IndexError, "a number has no value");
	} else if (indices) {
		found = ordered(numbers, values, known, indices, count);
	}
	PyMem_Free(indices);
	PyMem_Free(values);
	return found;
}
