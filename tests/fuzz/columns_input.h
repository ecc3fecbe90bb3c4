// columns_input.h -- what a fuzzer's bytes ask the module memleak._columns
//
// Input: which function (1 byte), the number of references (1 byte: bits 0..5; bit 6: the bytes lie behind a recording's header
// and directory, bit 7: entries of the live set are made whole), what is of another type (1), which allocation finds no memory (1;
// 0: none does), the lengths of a second and a third column (2 each), six numbers (4 each), the references (2 each), both
// columns, and the bytes.
#ifndef MEMLEAK_COLUMNS_INPUT_H
#define MEMLEAK_COLUMNS_INPUT_H

#include "../../native/columns/columns.h"

#include <stdlib.h>

#define NUMBERS 6
#define HEAD_BYTES (8 + 4 * NUMBERS)
#define COUNT_MOST 0xFFFF // of what is allocated before anything is read: the caller's own number

struct input {
	PyObject *raw, *other, *third, *list, *half[2]; // *half*: of the list
	PyObject *numbers[NUMBERS];
	struct view bytes, of_other, of_third; // what these hold, if they are bytes
	unsigned amiss, fails; // *fails*: the allocation that does, counted from 1
};

static inline void require(int holds)
{
	if (!holds)
		abort();
}

static inline PyObject *power(int bits, long long less)
{
	PyObject *one = PyLong_FromLong(1), *by = PyLong_FromLong(bits), *high = PyNumber_Lshift(one, by), *low = PyLong_FromLongLong(less);
	PyObject *found = PyNumber_Subtract(high, low);
	Py_DECREF(one);
	Py_DECREF(by);
	Py_DECREF(high);
	Py_DECREF(low);
	return found;
}

// Mostly small; the highest 4 bits say what else it is.
static inline PyObject *input_number(uint32_t word, Py_ssize_t length)
{
	long long low = word & 0xFFFFFFF;
	switch (word >> 28) {
	case 0: return PyLong_FromLongLong(low);
	case 1: return PyLong_FromLongLong(length - (low & 0xFFFF)); // counted from the end
	case 2: return power(63, 1 + low);
	case 3: return PyLong_FromLongLong(-low);
	case 4: return power(64, 1 + low);
	case 5: return power(32, low);
	case 6: return PyLong_FromLongLong(low << 34);
	case 7: return power(64, -low);
	case 8: Py_RETURN_NONE;
	case 9: return PyFloat_FromDouble(1.5);
	case 10: return PyUnicode_FromString("1");
	case 11: return power(100, low);
	case 12: return PyLong_FromLongLong(LLONG_MIN + low);
	case 13: return PyBool_FromLong(low & 1);
	default: return PyLong_FromLongLong(low & 0xFF);
	}
}

// The highest 4 bits say how far it leads; or that it leads into the room behind the directory; or that it is none.
static inline PyObject *input_reference(uint16_t word)
{
	unsigned low = word & 0xFFF, far = word >> 12;
	if (far == 15)
		return input_number((uint32_t)low << 20 | (low & 0xFF), 0);
	if (far == 14)
		return power(64, 1 + (long long)low);
	if (far == 1)
		return PyLong_FromUnsignedLong(MLF_ROOM_OFFSET / MLF_REF_BYTES + low);
	return PyLong_FromUnsignedLongLong((uint64_t)low << 4 * far);
}

static inline PyObject *input_list(const uint8_t *at, Py_ssize_t from, Py_ssize_t to)
{
	PyObject *list = PyList_New(to - from);
	for (Py_ssize_t i = from; i < to; i++) {
		uint16_t word;
		memcpy(&word, at + 2 * i, sizeof(word));
		PyList_SetItem(list, i - from, input_reference(word));
	}
	return list;
}

// No fuzzer guesses a check word.
static inline void make_whole(char *raw, Py_ssize_t bytes, PyObject *of_offset, PyObject *of_capacity)
{
	Py_ssize_t offset = PyLong_Check(of_offset) ? PyLong_AsSsize_t(of_offset) : -1;
	Py_ssize_t capacity = PyLong_Check(of_capacity) ? PyLong_AsSsize_t(of_capacity) : -1;
	PyErr_Clear();
	for (Py_ssize_t i = 0; offset >= 0 && offset < bytes && capacity < bytes && i < capacity; i++) {
		Py_ssize_t at = offset + 8 * capacity + (Py_ssize_t)sizeof(struct mlf_live) * i;
		struct mlf_live entry;
		if (at + (Py_ssize_t)sizeof(entry) > bytes)
			return;
		memcpy(&entry, raw + at, sizeof(entry));
		entry.check = mlf_live_check(word_at(raw + offset + 8 * i), entry.size_bytes, entry.row, entry.weight_x1024, entry.born_cs,
					     entry.thread);
		memcpy(raw + at, &entry, sizeof(entry));
	}
}

static inline PyObject *input_bytes(const uint8_t *data, size_t bytes, size_t before)
{
	PyObject *found = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(before + bytes));
	char *at = PyBytes_AsString(found);
	memset(at, 0, before);
	if (bytes)
		memcpy(at + before, data, bytes);
	return found;
}

static inline PyObject *nothing(void)
{
	Py_RETURN_NONE;
}

static inline void replace(PyObject **object, PyObject *by)
{
	Py_DECREF(*object);
	*object = by;
}

static inline void input_mistype(struct input *input)
{
	switch (input->amiss) {
	case 1: replace(&input->raw, PyByteArray_FromStringAndSize("0123456789", 10)); break;
	case 2: replace(&input->other, PyUnicode_FromString("names")); break;
	case 3: replace(&input->list, PyLong_FromLong(5)); break;
	case 4: replace(&input->list, PySequence_Tuple(input->list)); break;
	case 5: replace(&input->half[1], PySequence_Tuple(input->half[1])); break;
	case 6: replace(&input->other, nothing()); break;
	case 7: replace(&input->third, nothing()); break;
	case 8:
		replace(&input->other, nothing());
		replace(&input->third, nothing());
		break;
	case 9: replace(&input->third, PyByteArray_FromStringAndSize("0123456789", 10)); break;
	default: break; // 10 to 13: fields
	}
}

static inline struct view input_view(PyObject *object)
{
	struct view view = {NULL, 0};
	if (PyBytes_Check(object))
		require(view_of(object, &view));
	return view;
}

// False: these are no such bytes.
static inline bool input_read(struct input *input, const uint8_t *data, size_t bytes)
{
	if (bytes < HEAD_BYTES)
		return false;
	uint16_t lengths[2];
	uint32_t words[NUMBERS];
	memcpy(lengths, data + 4, sizeof(lengths));
	memcpy(words, data + 8, sizeof(words));
	Py_ssize_t items = data[1] & 63;
	const uint8_t *references = data + HEAD_BYTES, *at = references + 2 * items;
	size_t behind = (size_t)lengths[0] + lengths[1] + HEAD_BYTES + 2 * (size_t)items;
	if (bytes < behind)
		return false;
	input->list = input_list(references, 0, items);
	input->half[0] = input_list(references, 0, items / 2);
	input->half[1] = input_list(references, items / 2, items);
	input->other = input_bytes(at, lengths[0], 0);
	input->third = input_bytes(at + lengths[0], lengths[1], 0);
	input->raw = input_bytes(data + behind, bytes - behind, data[1] & 64 ? MLF_ROOM_OFFSET : 0);
	for (int n = 0; n < NUMBERS; n++)
		input->numbers[n] = input_number(words[n], PyBytes_Size(input->raw));
	if (data[1] & 128)
		make_whole(PyBytes_AsString(input->raw), PyBytes_Size(input->raw), input->numbers[0], input->numbers[1]);
	input->amiss = data[2];
	input_mistype(input);
	input->bytes = input_view(input->raw);
	input->of_other = input_view(input->other);
	input->of_third = input_view(input->third);
	input->fails = PyTuple_Check(input->list) ? 0 : data[3]; // CPython 3.11 loses a tuple when it has no memory for its list
	return true;
}

// A count that an answer is as long as: such a number comes from a list that there is.
static inline void input_cut(struct input *input, int n)
{
	int over = 0;
	long long number = PyLong_Check(input->numbers[n]) ? PyLong_AsLongLongAndOverflow(input->numbers[n], &over) : 0;
	if (number > COUNT_MOST && number <= PY_SSIZE_T_MAX / 64)
		replace(&input->numbers[n], PyLong_FromLongLong(number & COUNT_MOST));
}

#endif
