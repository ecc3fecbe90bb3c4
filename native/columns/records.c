// records.c -- records behind many references: whether they stand there, and what stands in them
//
// Context:   as columns.c.
// Invariant: as columns.c. "None" and false send the reader to look at each record alone, which says what is wrong with it.
// Why:       a recording has tens of thousands of rows with a stack or two each.
// Proof:     tests/unit/test_columns.py
#include "columns.h"

#define FIELDS_MOST 16

struct field {
	Py_ssize_t offset;
	int width;
};

static bool fit(const struct field *field)
{
	if (field->offset >= 0 && (field->width == 4 || field->width == 8))
		return true;
	PyErr_SetString(PyExc_ValueError, "numbers have 4 or 8 bytes, and stand behind a reference");
	return false;
}

// Where each reference leads, or -1: some field would lie outside.
static bool place(const struct view *raw, uint64_t *refs, Py_ssize_t count, const struct field *fields, int number)
{
	Py_ssize_t reach = 0; // bytes needed behind a reference
	for (int f = 0; f < number; f++) {
		if (fields[f].offset > raw->bytes - fields[f].width)
			return count == 0;
		Py_ssize_t ends = fields[f].offset + fields[f].width;
		reach = ends > reach ? ends : reach;
	}
	uint64_t last = (uint64_t)(raw->bytes - reach) / MLF_REF_BYTES;
	for (Py_ssize_t i = 0; i < count; i++) {
		if (raw->bytes < reach || refs[i] > last)
			return false;
		refs[i] *= MLF_REF_BYTES;
		__builtin_prefetch(raw->data + refs[i]); // records lie apart, and were copied a while ago
	}
	return true;
}

static bool fill(const struct view *raw, const uint64_t *places, Py_ssize_t count, const struct field *fields, int number, PyObject **columns)
{
	for (Py_ssize_t i = 0; i < count; i++)
		for (int f = 0; f < number; f++)
			if (put(columns[f], i, number_at(raw->data + places[i] + fields[f].offset, fields[f].width)) < 0)
				return false;
	return true;
}

static PyObject *gathered(PyObject *bytes, PyObject *refs, const struct field *fields, int number)
{
	struct view raw;
	Py_ssize_t count;
	bool odd;
	uint64_t *places = view_of(bytes, &raw) ? numbers_of(refs, &count, &odd) : NULL;
	if (!places)
		return NULL;
	PyObject *columns[FIELDS_MOST], *found = NULL;
	int made = 0;
	if (odd || !place(&raw, places, count, fields, number))
		PyErr_SetString(PyExc_IndexError, "a reference leads out of the recording");
	else
		while (made < number && (columns[made] = PyList_New(count)))
			made++;
	if (made == number && number > 0 && fill(&raw, places, count, fields, number, columns))
		found = PyList_New(number);
	for (int f = 0; f < made; f++) {
		if (found && PyList_SetItem(found, f, columns[f]) == 0)
			continue;
		if (!found)
			Py_DECREF(columns[f]);
	}
	PyMem_Free(places);
	return found;
}

PyObject *columns_fields(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *raw, *refs, *places;
	struct field fields[FIELDS_MOST];
	if (!PyArg_ParseTuple(args, "SOO!", &raw, &refs, &PyTuple_Type, &places))
		return NULL;
	Py_ssize_t number = PyTuple_Size(places);
	if (number < 1 || number > FIELDS_MOST) {
		PyErr_SetString(PyExc_ValueError, "between 1 and 16 fields are taken at once");
		return NULL;
	}
	for (Py_ssize_t f = 0; f < number; f++) {
		PyObject *one = PyTuple_GetItem(places, f);
		if (!PyTuple_Check(one)) {
			PyErr_SetString(PyExc_TypeError, "a field is its offset and its width");
			return NULL;
		}
		if (!PyArg_ParseTuple(one, "ni", &fields[f].offset, &fields[f].width) || !fit(&fields[f]))
			return NULL;
	}
	return gathered(raw, refs, fields, (int)number);
}

// ---- what stands where a reference points ---------------------------------------------------------------

// Returns how many rows were found, or -1.
static Py_ssize_t find_rows(const struct view *raw, const struct view *words, uint32_t *refs, unsigned char *bits, uint64_t *total)
{
	Py_ssize_t count = 0, found = 0;
	for (Py_ssize_t i = 0; i < words->bytes / 8; i++) {
		uint64_t word = word_at(words->data + 8 * i);
		if (word) {
			record_fetch(raw, (uint32_t)word);
			count++;
		}
	}
	for (Py_ssize_t i = 0; found < count; i++) {
		uint64_t word = word_at(words->data + 8 * i);
		if (!word)
			continue;
		uint32_t ref = (uint32_t)word, length;
		const char *row = record_at(raw, ref, MLF_RECORD_ROW, sizeof(struct mlf_row), &length);
		if (!row || word >> 32 != word_at(row + offsetof(struct mlf_row, key)) >> 32 || bit_set(bits, ref))
			return -1;
		*total += length;
		refs[found++] = ref;
	}
	return found;
}

PyObject *columns_rows(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *bytes, *index, *found = NULL;
	struct view raw, words;
	if (!PyArg_ParseTuple(args, "SS", &bytes, &index) || !view_of(bytes, &raw) || !view_of(index, &words))
		return NULL;
	uint32_t *refs = PyMem_Malloc((size_t)words.bytes / 8 * sizeof(*refs) + 1);
	unsigned char *bits = zeroed(bitmap_bytes(&raw), 1);
	uint64_t total = 0;
	if (!refs || !bits) {
		PyErr_NoMemory();
	} else {
		Py_ssize_t count = find_rows(&raw, &words, refs, bits, &total);
		if (count < 0) {
			Py_INCREF(Py_None);
			found = Py_None;
		} else {
			PyObject *list = PyList_New(count);
			for (Py_ssize_t i = 0; list && i < count; i++)
				if (put(list, i, refs[i]) < 0)
					Py_CLEAR(list);
			if (list)
				found = Py_BuildValue("(NK)", list, (unsigned long long)total);
		}
	}
	PyMem_Free(bits);
	PyMem_Free(refs);
	return found;
}

struct standing {
	uint64_t bytes, frames;
	Py_ssize_t different;
};

static bool find_stacks(const struct view *raw, uint64_t *refs, Py_ssize_t count, unsigned kind, unsigned frames_most, unsigned char *bits,
			struct standing *all)
{
	for (Py_ssize_t i = 0; i < count; i++)
		record_fetch(raw, refs[i]);
	for (Py_ssize_t i = 0; i < count; i++) {
		if (!refs[i])
			continue;
		uint32_t length;
		const char *stack = record_at(raw, refs[i], kind, sizeof(struct mlf_stack), &length); // Python stacks begin alike
		if (!stack)
			return false;
		struct mlf_stack head;
		memcpy(&head, stack, sizeof(head));
		if (head.frames > frames_most || sizeof(head) + 8 * (size_t)head.frames > length)
			return false;
		all->frames += head.frames;
		if (!bit_set(bits, refs[i])) {
			all->bytes += length;
			refs[all->different++] = head.key; // no place is read again
		}
	}
	return true;
}

PyObject *columns_stacks(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *bytes, *list, *bits = NULL, *found = NULL;
	struct view raw;
	unsigned kind, frames_most;
	Py_ssize_t count;
	bool odd;
	if (!PyArg_ParseTuple(args, "SOII", &bytes, &list, &kind, &frames_most) || !view_of(bytes, &raw))
		return NULL;
	uint64_t *refs = numbers_of(list, &count, &odd);
	if (refs && (bits = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bitmap_bytes(&raw)))) {
		unsigned char *set = (unsigned char *)PyBytes_AsString(bits);
		memset(set, 0, bitmap_bytes(&raw));
		struct standing all = {0};
		if (odd || !find_stacks(&raw, refs, count, kind, frames_most, set, &all)) {
			Py_INCREF(Py_None);
			found = Py_None;
		} else {
			int different = all_different(refs, all.different);
			found = different < 0 ? PyErr_NoMemory() :
						Py_BuildValue("(KKOO)", (unsigned long long)all.bytes, (unsigned long long)all.frames,
							      different ? Py_False : Py_True, bits);
		}
	}
	Py_XDECREF(bits);
	PyMem_Free(refs);
	return found;
}

PyObject *columns_stand(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *bytes, *list;
	struct view raw;
	unsigned kind, least;
	Py_ssize_t count;
	bool odd;
	if (!PyArg_ParseTuple(args, "SOII", &bytes, &list, &kind, &least) || !view_of(bytes, &raw))
		return NULL;
	uint64_t *refs = numbers_of(list, &count, &odd);
	if (!refs)
		return NULL;
	for (Py_ssize_t i = 0; i < count; i++)
		record_fetch(&raw, refs[i]);
	bool stand = !odd;
	uint32_t length;
	for (Py_ssize_t i = 0; stand && i < count; i++)
		stand = record_at(&raw, refs[i], kind, least, &length) != NULL;
	PyMem_Free(refs);
	return PyBool_FromLong(stand);
}

PyObject *columns_distinct(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *bytes, *list;
	struct view raw;
	struct field field = {.width = 8};
	Py_ssize_t count;
	bool odd;
	if (!PyArg_ParseTuple(args, "SOn", &bytes, &list, &field.offset) || !view_of(bytes, &raw) || !fit(&field))
		return NULL;
	uint64_t *numbers = numbers_of(list, &count, &odd);
	if (!numbers)
		return NULL;
	int different = -2;
	if (!odd && place(&raw, numbers, count, &field, 1)) {
		for (Py_ssize_t i = 0; i < count; i++)
			numbers[i] = word_at(raw.data + numbers[i] + field.offset);
		different = all_different(numbers, count);
	}
	PyMem_Free(numbers);
	if (different == -2)
		PyErr_SetString(PyExc_IndexError, "a reference leads out of the recording");
	return different == -1 ? PyErr_NoMemory() : different < 0 ? NULL : PyBool_FromLong(different);
}

// ---- the words of a stack ---------------------------------------------------------------------------------

#define NAME_BYTES 10
#define VADDR_BYTES 6

PyObject *columns_places(PyObject *module, PyObject *args)
{
	(void)module;
	PyObject *bytes, *list;
	struct view raw, names;
	Py_ssize_t offset, frames;
	if (!PyArg_ParseTuple(args, "SnnS", &bytes, &offset, &frames, &list) || !view_of(bytes, &raw) || !view_of(list, &names))
		return NULL;
	if (offset < 0 || frames < 0 || offset > raw.bytes || frames > (raw.bytes - offset) / 8) {
		PyErr_SetString(PyExc_IndexError, "a stack lies outside of the recording");
		return NULL;
	}
	if (names.bytes < NAME_BYTES) {
		PyErr_SetString(PyExc_ValueError, "no module has a name");
		return NULL;
	}
	PyObject *found = PyBytes_FromStringAndSize(NULL, frames * (NAME_BYTES + VADDR_BYTES));
	char *to = found ? PyBytes_AsString(found) : NULL;
	for (Py_ssize_t i = 0; to && i < frames; i++) {
		uint64_t word = word_at(raw.data + offset + 8 * i), vaddr = word & MLF_FRAME_VADDR_MASK;
		uint64_t module_id = word >> MLF_FRAME_MODULE_SHIFT;
		bool is_known = module_id < (uint64_t)names.bytes / NAME_BYTES;
		memcpy(to, names.data + (is_known ? module_id * NAME_BYTES : 0), NAME_BYTES);
		memcpy(to + NAME_BYTES, &vaddr, VADDR_BYTES); // little endian
		to += NAME_BYTES + VADDR_BYTES;
	}
	return found;
}
