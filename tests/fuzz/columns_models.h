// columns_models.h -- what the functions of memleak._columns have to answer, one thing after the other and in plain words
//
// Each is called with what was asked and an answer; what it must not be ends the program.
#ifndef MEMLEAK_COLUMNS_MODELS_H
#define MEMLEAK_COLUMNS_MODELS_H

#include "columns_input.h"

__extension__ typedef unsigned __int128 room_t;

static inline Py_ssize_t size_in(const struct input *input, int n)
{
	return PyLong_AsSsize_t(input->numbers[n]);
}

static inline unsigned half_in(const struct input *input, int n) // as the letter I of PyArg_ParseTuple takes it
{
	return (unsigned)PyLong_AsUnsignedLongMask(input->numbers[n]);
}

static inline uint64_t long_in(PyObject *list, Py_ssize_t at)
{
	PyObject *item = PySequence_GetItem(list, at);
	uint64_t found = PyLong_AsUnsignedLongLong(item);
	require(found != UINT64_MAX || !PyErr_Occurred());
	Py_DECREF(item);
	return found;
}

// Of what was asked; false: it has no 64 bits.
static inline bool long_asked(PyObject *list, Py_ssize_t at, uint64_t *found)
{
	PyObject *item = PySequence_GetItem(list, at);
	*found = PyLong_AsUnsignedLongLong(item);
	bool has = *found != UINT64_MAX || !PyErr_Occurred();
	PyErr_Clear();
	Py_DECREF(item);
	return has;
}

static inline bool model_stands(const struct view *raw, uint64_t ref, unsigned kind, uint32_t least, uint32_t *length)
{
	room_t at = (room_t)ref * 16;
	if (at < 8192 || at + 8 > (room_t)raw->bytes)
		return false;
	const unsigned char *head = (const unsigned char *)raw->data + (size_t)at;
	*length = head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 24;
	return (unsigned)(head[4] | head[5] << 8) == kind && *length >= least && at + *length <= (room_t)raw->bytes;
}

static void model_fields(const struct input *input, PyObject *found)
{
	require(PyList_CheckExact(found) && PyList_Size(found) == 3);
	for (int f = 0; f < 3; f++) {
		PyObject *column = PyList_GetItem(found, f);
		require(PyList_CheckExact(column) && PyList_Size(column) == PySequence_Size(input->list));
		Py_ssize_t offset = size_in(input, 2 * f), width = size_in(input, 2 * f + 1);
		require(offset >= 0 && (width == 4 || width == 8));
		for (Py_ssize_t i = 0; i < PyList_Size(column); i++) {
			uint64_t ref, right = 0;
			require(long_asked(input->list, i, &ref) && (room_t)ref * 16 + (room_t)offset + (room_t)width <= (room_t)input->bytes.bytes);
			memcpy(&right, input->bytes.data + ref * 16 + (size_t)offset, (size_t)width);
			require(long_in(column, i) == right);
		}
	}
}

static void model_rows(const struct input *input, PyObject *found)
{
	uint64_t total = 0;
	Py_ssize_t count = 0, words = input->of_other.bytes / 8;
	bool whole = true;
	for (Py_ssize_t i = 0; whole && i < words; i++) {
		uint64_t word = word_at(input->of_other.data + 8 * i);
		if (!word)
			continue;
		uint32_t ref = (uint32_t)word, length;
		whole = model_stands(&input->bytes, ref, MLF_RECORD_ROW, sizeof(struct mlf_row), &length) &&
			half_at(input->bytes.data + 16 * (size_t)ref + 12) == word >> 32;
		for (Py_ssize_t before = 0; whole && before < i; before++)
			whole = half_at(input->of_other.data + 8 * before) != ref || !word_at(input->of_other.data + 8 * before);
		if (!whole)
			break;
		total += length;
		if (found != Py_None)
			require(long_in(PyTuple_GetItem(found, 0), count) == ref);
		count++;
	}
	require(whole == (found != Py_None));
	require(!whole || (PyList_Size(PyTuple_GetItem(found, 0)) == count && long_in(found, 1) == total));
}

static void model_stacks(const struct input *input, PyObject *found)
{
	uint64_t bytes = 0, frames = 0, refs[64], keys[64];
	Py_ssize_t different = 0;
	bool whole = true, alike = false;
	for (Py_ssize_t i = 0; whole && i < PySequence_Size(input->list); i++) {
		uint64_t ref;
		uint32_t length;
		struct mlf_stack head;
		whole = long_asked(input->list, i, &ref);
		if (!whole || !ref)
			continue;
		whole = model_stands(&input->bytes, ref, half_in(input, 0), sizeof(head), &length);
		if (!whole)
			break;
		memcpy(&head, input->bytes.data + 16 * ref, sizeof(head));
		whole = head.frames <= half_in(input, 1) && sizeof(head) + 8ull * head.frames <= length;
		frames += head.frames;
		Py_ssize_t at = 0;
		while (at < different && refs[at] != ref)
			at++;
		if (at < different)
			continue;
		for (Py_ssize_t n = 0; n < different; n++)
			alike = alike || keys[n] == head.key;
		bytes += length;
		refs[different] = ref;
		keys[different++] = head.key;
	}
	require(whole == (found != Py_None));
	if (!whole)
		return;
	require(long_in(found, 0) == bytes && long_in(found, 1) == frames && (PyTuple_GetItem(found, 2) == Py_True) == alike);
	struct view bits = input_view(PyTuple_GetItem(found, 3));
	Py_ssize_t set = 0;
	for (Py_ssize_t i = 0; i < bits.bytes; i++)
		set += __builtin_popcount((unsigned char)bits.data[i]);
	require(set == different);
	for (Py_ssize_t i = 0; i < different; i++)
		require(bits.data[refs[i] / 8] >> refs[i] % 8 & 1);
}

static void model_stand(const struct input *input, PyObject *found)
{
	bool stand = true;
	for (Py_ssize_t i = 0; i < PySequence_Size(input->list); i++) {
		uint64_t ref;
		uint32_t length;
		stand = long_asked(input->list, i, &ref) &&
			model_stands(&input->bytes, ref, half_in(input, 0), half_in(input, 1), &length) && stand;
	}
	require(found == (stand ? Py_True : Py_False));
}

static void model_distinct(const struct input *input, PyObject *found)
{
	bool different = true;
	uint64_t seen[64];
	Py_ssize_t count = PySequence_Size(input->list);
	for (Py_ssize_t i = 0; i < count; i++) {
		uint64_t ref, at;
		require(long_asked(input->list, i, &ref));
		at = ref * 16 + (uint64_t)size_in(input, 0);
		require(ref < 1ull << 32 && at + 8 <= (uint64_t)input->bytes.bytes);
		seen[i] = word_at(input->bytes.data + at);
		for (Py_ssize_t before = 0; before < i; before++)
			different = different && seen[before] != seen[i];
	}
	require(found == (different ? Py_True : Py_False)); // so few are always found out
}

static void model_live(const struct input *input, PyObject *found)
{
	static const int widths[] = {4, 8, 4, 4, 4, 1};
	Py_ssize_t offset = size_in(input, 0), capacity = size_in(input, 1), bytes = input->bytes.bytes;
	Py_ssize_t count = 0, torn = 0, beyond = 0;
	struct view columns[6];
	require(PyTuple_Size(found) == 8);
	for (int c = 0; c < 6; c++)
		columns[c] = input_view(PyTuple_GetItem(found, c));
	for (Py_ssize_t i = 0; i < capacity && offset + 8 * i + 8 <= bytes; i++) {
		uint64_t key = word_at(input->bytes.data + offset + 8 * i);
		Py_ssize_t at = offset + 8 * capacity + 32 * i;
		unsigned layer = key >> 48 & 15;
		struct mlf_live entry;
		if (!(key >> 63))
			continue;
		if (at + 32 > bytes) {
			beyond++;
			continue;
		}
		memcpy(&entry, input->bytes.data + at, sizeof(entry));
		if (layer >= MLF_LAYER_NO_SAMPLE)
			continue;
		if (entry.weight_x1024 < 1024 || entry.check != mlf_live_check(key, entry.size_bytes, entry.row, entry.weight_x1024,
									       entry.born_cs, entry.thread)) {
			torn++;
			continue;
		}
		require(4 * count < columns[0].bytes && half_at(columns[0].data + 4 * count) == entry.row);
		require(8 * count < columns[1].bytes && word_at(columns[1].data + 8 * count) == entry.size_bytes);
		require(4 * count < columns[2].bytes && half_at(columns[2].data + 4 * count) == entry.weight_x1024);
		require(4 * count < columns[3].bytes && half_at(columns[3].data + 4 * count) == entry.born_cs);
		require(4 * count < columns[4].bytes && half_at(columns[4].data + 4 * count) == entry.thread);
		require(count < columns[5].bytes && (unsigned char)columns[5].data[count] == layer);
		count++;
	}
	for (int c = 0; c < 6; c++)
		require(columns[c].bytes == widths[c] * count);
	require(long_in(found, 6) == (uint64_t)torn && long_in(found, 7) == (uint64_t)beyond);
}

static void model_at(const struct input *input, PyObject *found)
{
	uint64_t ref = PyLong_AsUnsignedLongLongMask(input->numbers[0]);
	Py_ssize_t count = 0;
	for (Py_ssize_t i = 0; 4 * i + 4 <= input->bytes.bytes; i++)
		if (half_at(input->bytes.data + 4 * i) == ref)
			require(long_in(found, count++) == (uint64_t)i);
	require(PyList_Size(found) == count);
}

static void model_owners(const struct input *input, PyObject *found)
{
	uint64_t refs[64], limit = (uint64_t)size_in(input, 0);
	Py_ssize_t count = PySequence_Size(input->list), samples = input->bytes.bytes / 4;
	bool whole = true;
	for (Py_ssize_t i = 0; whole && i < count; i++) {
		whole = long_asked(input->list, i, &refs[i]) && refs[i] < limit;
		for (Py_ssize_t before = 0; whole && before < i; before++)
			whole = refs[before] / 8 != refs[i] / 8;
	}
	for (Py_ssize_t i = 0; whole && i < samples; i++) {
		Py_ssize_t owner = 0;
		while (owner < count && refs[owner] != half_at(input->bytes.data + 4 * i))
			owner++;
		whole = owner < count;
		if (whole && found != Py_None)
			require(PyBytes_Size(found) == 4 * samples && half_at(PyBytes_AsString(found) + 4 * i) == (uint64_t)owner);
	}
	require(whole == (found != Py_None));
}

static void model_order(const struct input *input, PyObject *found)
{
	Py_ssize_t count = PyList_Size(input->half[1]);
	uint64_t number, value, last = 0, last_at = 0;
	bool wide = false;
	for (Py_ssize_t i = 0; i < PyList_Size(input->half[0]); i++)
		wide = !long_asked(input->half[0], i, &value) || wide;
	require(wide == (found == Py_None));
	if (wide)
		return;
	require(PyList_Size(found) == count);
	bool taken[64] = {false};
	for (Py_ssize_t i = 0; i < count; i++) {
		Py_ssize_t at = 0;
		number = long_in(found, i);
		while (at < count && (taken[at] || long_in(input->half[1], at) != number))
			at++;
		require(at < count && number < (uint64_t)PyList_Size(input->half[0]));
		taken[at] = true;
		value = long_in(input->half[0], (Py_ssize_t)number);
		require(!i || value < last || (value == last && (uint64_t)at > last_at));
		last = value;
		last_at = (uint64_t)at;
	}
}

static void model_places(const struct input *input, PyObject *found)
{
	Py_ssize_t offset = size_in(input, 0), frames = size_in(input, 1);
	require(PyBytes_Size(found) == 16 * frames);
	for (Py_ssize_t i = 0; i < frames; i++) {
		const char *place = PyBytes_AsString(found) + 16 * i;
		uint64_t word = word_at(input->bytes.data + offset + 8 * i), vaddr = 0, module = word >> 48;
		memcpy(&vaddr, place + 10, 6);
		require(vaddr == (word & MLF_FRAME_VADDR_MASK));
		if (10 * module + 10 > (uint64_t)input->of_other.bytes)
			module = 0;
		require(!memcmp(place, input->of_other.data + 10 * module, 10));
	}
}

static void model_history(const struct input *input, PyObject *found)
{
	uint64_t last = 0;
	require(PyTuple_Size(found) <= size_in(input, 1) * size_in(input, 2));
	for (Py_ssize_t i = 0; i < PyTuple_Size(found); i++) {
		PyObject *point = PyTuple_GetItem(found, i);
		uint64_t cs = long_in(point, 0), value = long_in(point, 1);
		require((!i || cs > last) && cs <= PyLong_AsUnsignedLongLong(input->numbers[5]) && value < 1ull << MLF_HISTORY_VALUE_BITS);
		last = cs;
	}
}

static void model_lines(const struct input *input, PyObject *found)
{
	struct view starts = input_view(PyTuple_GetItem(found, 0)), lines = input_view(PyTuple_GetItem(found, 1));
	require(starts.bytes == lines.bytes && starts.bytes / 4 <= input->bytes.bytes + 2);
	for (Py_ssize_t at = 0; at < starts.bytes; at += 4) {
		uint32_t start = half_at(starts.data + at), line = half_at(lines.data + at);
		require(start <= MLF_PYTHON_FRAME_OFFSET_MASK && (line <= INT32_MAX || line == UINT32_MAX));
		// What is said of one offset twice may become what stands before it.
		require(!at || start > half_at(starts.data + at - 4));
	}
}

// The numbers of Python's: they have no greatest.
static void model_added(const struct input *input, PyObject *found, bool squared)
{
	Py_ssize_t count = size_in(input, 0), samples = input->bytes.bytes / 4;
	require(PyList_Size(found) == count);
	PyObject *sums = PyList_New(count);
	for (Py_ssize_t i = 0; i < count; i++)
		PyList_SetItem(sums, i, PyLong_FromLong(0));
	for (Py_ssize_t i = 0; i < samples; i++) {
		Py_ssize_t owner = half_at(input->bytes.data + 4 * i);
		require(owner < count);
		PyObject *size = PyLong_FromUnsignedLongLong(input->of_other.data ? word_at(input->of_other.data + 8 * i) : 1);
		PyObject *weight = PyLong_FromUnsignedLong(input->of_third.data ? half_at(input->of_third.data + 4 * i) : 1);
		PyObject *value = PyNumber_Multiply(size, weight), *square = PyNumber_Multiply(value, value);
		PyList_SetItem(sums, owner, PyNumber_Add(PyList_GetItem(sums, owner), squared ? square : value));
		Py_DECREF(size);
		Py_DECREF(weight);
		Py_DECREF(value);
		Py_DECREF(square);
	}
	require(PyObject_RichCompareBool(sums, found, Py_EQ) == 1);
	Py_DECREF(sums);
}

static void model_sums(const struct input *input, PyObject *found)
{
	model_added(input, found, false);
}

static void model_squares(const struct input *input, PyObject *found)
{
	model_added(input, found, true);
}

#endif
