// live.c -- the live samples of a recording: those that are whole, by column, and their sums
//
// Context:   as columns.c.
// Invariant: as columns.c. Sums have 128 bits, and those of squares 256: a size has 64, a weight 32, and a file holds no 2^28 samples.
// Why:       of the samples the first row needs sums alone; no number of Python's is made for them.
// Proof:     tests/unit/test_columns.py
#include "columns.h"

struct reading {
	const char *keys, *entries;
	Py_ssize_t capacity, readable; // keys and entries that lie in the bytes
	Py_ssize_t torn, beyond;
};

// True: a sample. Else it is counted, unless it is nothing at all.
static bool is_sample(struct reading *reading, Py_ssize_t i, uint64_t key)
{
	if (!(key & MLF_LIVE_KEY_LIVE))
		return false;
	if (i >= reading->readable) {
		reading->beyond++;
		return false;
	}
	if ((key >> MLF_LIVE_KEY_LAYER_SHIFT & 15) >= MLF_LAYER_NO_SAMPLE)
		return false;
	struct mlf_live entry;
	memcpy(&entry, reading->entries + i * (Py_ssize_t)sizeof(entry), sizeof(entry));
	uint32_t check = mlf_live_check(key, entry.size_bytes, entry.row, entry.weight_x1024, entry.born_cs, entry.thread);
	if (check != entry.check || entry.weight_x1024 < 1024) {
		reading->torn++;
		return false;
	}
	return true;
}

#define COLUMNS 6

static const int widths[COLUMNS] = {4, 8, 4, 4, 4, 1};

static void fill(const struct reading *reading, const Py_ssize_t *places, Py_ssize_t count, char *const *columns)
{
	for (Py_ssize_t n = 0; n < count; n++) {
		uint64_t key = word_at(reading->keys + 8 * places[n]);
		struct mlf_live entry;
		memcpy(&entry, reading->entries + places[n] * (Py_ssize_t)sizeof(entry), sizeof(entry));
		memcpy(columns[0] + 4 * n, &entry.row, 4);
		memcpy(columns[1] + 8 * n, &entry.size_bytes, 8);
		memcpy(columns[2] + 4 * n, &entry.weight_x1024, 4);
		memcpy(columns[3] + 4 * n, &entry.born_cs, 4);
		memcpy(columns[4] + 4 * n, &entry.thread, 4);
		columns[5][n] = (char)(key >> MLF_LIVE_KEY_LAYER_SHIFT & 15);
	}
}

static PyObject *columns_made(const struct reading *reading, const Py_ssize_t *places, Py_ssize_t count)
{
	PyObject *made[COLUMNS] = {NULL}, *found = NULL;
	char *columns[COLUMNS];
	int c = 0;
	while (c < COLUMNS && (made[c] = PyBytes_FromStringAndSize(NULL, count * widths[c]))) {
		columns[c] = PyBytes_AsString(made[c]);
		c++;
	}
	if (c == COLUMNS) {
		fill(reading, places, count, columns);
		found = Py_BuildValue("(OOOOOOnn)", made[0], made[1], made[2], made[3], made[4], made[5], reading->torn, reading->beyond);
	}
	for (c = 0; c < COLUMNS; c++)
		Py_XDECREF(made[c]);
	return found;
}

PyObject *columns_live(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *bytes;
	struct view raw;
	Py_ssize_t offset, capacity, count = 0;
	if (!PyArg_ParseTuple(args, "Snn", &bytes, &offset, &capacity) || !view_of(bytes, &raw))
		return NULL;
	if (offset < 0 || capacity < 0 || capacity > PY_SSIZE_T_MAX / 64 || offset > PY_SSIZE_T_MAX - 8 * capacity) {
		PyErr_SetString(PyExc_ValueError, "a live set has a place and a size");
		return NULL;
	}
	Py_ssize_t keys = offset < raw.bytes ? (raw.bytes - offset) / 8 : 0, entries_at = offset + 8 * capacity;
	struct reading reading = {.keys = raw.data + (offset < raw.bytes ? offset : 0), .capacity = keys < capacity ? keys : capacity};
	if (entries_at < raw.bytes) {
		reading.entries = raw.data + entries_at;
		reading.readable = (raw.bytes - entries_at) / (Py_ssize_t)sizeof(struct mlf_live);
	}
	// Torn ones are found once: the bytes do not change.
	Py_ssize_t *places = PyMem_Malloc(((size_t)reading.capacity + 1) * sizeof(*places));
	if (!places)
		return PyErr_NoMemory();
	for (Py_ssize_t i = 0; i < reading.capacity; i++) {
		uint64_t key = word_at(reading.keys + 8 * i);
		if (key && is_sample(&reading, i, key))
			places[count++] = i;
	}
	PyObject *found = columns_made(&reading, places, count);
	PyMem_Free(places);
	return found;
}

// ---- which row a sample belongs to ---------------------------------------------------------------------

PyObject *columns_at(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *bytes, *found;
	struct view rows;
	unsigned long long ref;
	if (!PyArg_ParseTuple(args, "SK", &bytes, &ref) || !view_of(bytes, &rows) || !(found = PyList_New(0)))
		return NULL;
	for (Py_ssize_t i = 0; found && i < rows.bytes / 4; i++) {
		if (half_at(rows.data + 4 * i) == ref) {
			PyObject *number = PyLong_FromSsize_t(i);
			if (!number || PyList_Append(found, number) < 0)
				Py_CLEAR(found);
			Py_XDECREF(number);
		}
	}
	return found;
}

#define REFS_PER_ROW (sizeof(struct mlf_row) / MLF_REF_BYTES)

// Rows do not overlap: in so many bytes as one has, no two begin. Where they do overlap, false.
static bool find_owners(const uint64_t *refs, Py_ssize_t count, const struct view *rows, uint64_t limit, uint32_t *begun, char *owners)
{
	if (count > (Py_ssize_t)UINT32_MAX - 1)
		return false;
	for (Py_ssize_t i = 0; i < count; i++) {
		if (refs[i] >= limit || begun[refs[i] / REFS_PER_ROW])
			return false;
		begun[refs[i] / REFS_PER_ROW] = (uint32_t)i + 1;
	}
	for (Py_ssize_t i = 0; i < rows->bytes / 4; i++) {
		uint32_t row = half_at(rows->data + 4 * i);
		uint32_t owner = row < limit ? begun[row / REFS_PER_ROW] : 0;
		if (!owner || refs[owner - 1] != row)
			return false;
		owner--;
		memcpy(owners + 4 * i, &owner, sizeof(owner));
	}
	return true;
}

PyObject *columns_owners(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *list, *bytes, *found = NULL;
	struct view rows;
	Py_ssize_t limit, count;
	bool odd;
	if (!PyArg_ParseTuple(args, "OSn", &list, &bytes, &limit) || !view_of(bytes, &rows))
		return NULL;
	if (limit < 0 || limit > (Py_ssize_t)1 << 32) {
		PyErr_SetString(PyExc_ValueError, "a reference has 32 bits");
		return NULL;
	}
	uint64_t *refs = numbers_of(list, &count, &odd);
	uint32_t *begun = refs ? zeroed((size_t)limit / REFS_PER_ROW + 1, sizeof(*begun)) : NULL;
	if (refs && !begun)
		PyErr_NoMemory();
	if (begun && (found = PyBytes_FromStringAndSize(NULL, rows.bytes / 4 * 4)) &&
	    (odd || !find_owners(refs, count, &rows, (uint64_t)limit, begun, PyBytes_AsString(found)))) {
		Py_DECREF(found);
		Py_INCREF(Py_None);
		found = Py_None;
	}
	PyMem_Free(begun);
	PyMem_Free(refs);
	return found;
}

// ---- sums ------------------------------------------------------------------------------------------------

__extension__ typedef unsigned __int128 sum_t;

// Both are ours to give back, and may be NULL: there was no memory.
static PyObject *joined(PyObject *high, int bits, PyObject *low)
{
	PyObject *by = PyLong_FromLong(bits), *shifted = high && by ? PyNumber_Lshift(high, by) : NULL;
	PyObject *found = shifted && low ? PyNumber_Or(shifted, low) : NULL;
	Py_XDECREF(shifted);
	Py_XDECREF(by);
	Py_XDECREF(high);
	Py_XDECREF(low);
	return found;
}

static PyObject *long_of(sum_t value)
{
	PyObject *low = PyLong_FromUnsignedLongLong((unsigned long long)value);
	return value >> 64 ? joined(PyLong_FromUnsignedLongLong((unsigned long long)(value >> 64)), 64, low) : low;
}

static bool column_of(PyObject *object, int width, Py_ssize_t samples, struct view *column)
{
	column->data = NULL;
	if (object == Py_None)
		return true;
	if (!view_of(object, column))
		return false;
	if (column->bytes / width == samples)
		return true;
	PyErr_SetString(PyExc_ValueError, "columns of one live set are of one length");
	return false;
}

// Words: of one sum, the lowest first.
static PyObject *longs_of(const sum_t *sums, Py_ssize_t count, int words)
{
	PyObject *found = PyList_New(count);
	for (Py_ssize_t i = 0; found && i < count; i++, sums += words) {
		PyObject *low = long_of(sums[0]), *number = words > 1 && sums[1] ? joined(long_of(sums[1]), 128, low) : low;
		if (!number || PyList_SetItem(found, i, number) < 0)
			Py_CLEAR(found);
	}
	return found;
}

// Of two words. A value is a size times a weight, and its square has 192 bits.
static void add_square(sum_t *sum, sum_t value)
{
	sum_t low = (uint64_t)value, high = value >> 64, middle = 2 * low * high, square = low * low, both = square + (middle << 64);
	sum[0] += both;
	sum[1] += high * high + (middle >> 64) + (both < square) + (sum[0] < both);
}

static PyObject *added(PyObject *args, bool squared)
{
	PyObject *rows, *of_sizes, *of_weights, *found = NULL;
	struct view owners, sizes, weights;
	Py_ssize_t count, words = squared ? 2 : 1;
	if (!PyArg_ParseTuple(args, "SnOO", &rows, &count, &of_sizes, &of_weights) || !view_of(rows, &owners))
		return NULL;
	Py_ssize_t samples = owners.bytes / 4;
	if (!column_of(of_sizes, 8, samples, &sizes) || !column_of(of_weights, 4, samples, &weights))
		return NULL;
	if (count < 0 || count > PY_SSIZE_T_MAX / 64) {
		PyErr_SetString(PyExc_ValueError, "there are no so many rows");
		return NULL;
	}
	sum_t *sums = zeroed((size_t)(count * words) + 1, sizeof(*sums));
	if (!sums)
		return PyErr_NoMemory();
	Py_ssize_t i = 0;
	for (; i < samples; i++) {
		uint32_t owner = half_at(owners.data + 4 * i);
		if (owner >= count)
			break;
		sum_t value = (sum_t)(sizes.data ? word_at(sizes.data + 8 * i) : 1) * (weights.data ? half_at(weights.data + 4 * i) : 1);
		if (squared)
			add_square(sums + words * owner, value);
		else
			sums[owner] += value;
	}
	if (i < samples)
		PyErr_SetString(PyExc_IndexError, "a sample belongs to a row that there is");
	else
		found = longs_of(sums, count, (int)words);
	PyMem_Free(sums);
	return found;
}

PyObject *columns_sums(PyObject *module, PyObject *args)
{
	(void)module;
	return added(args, false);
}

PyObject *columns_squares(PyObject *module, PyObject *args)
{
	(void)module;
	return added(args, true);
}
