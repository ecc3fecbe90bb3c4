// columns.h -- what the files of the module share: bytes of a recording, each checked before it is read
#ifndef MEMLEAK_COLUMNS_H
#define MEMLEAK_COLUMNS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../include/memleak_format.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

// A whole recording, or a column: the bytes of a Python object that the caller holds.
struct view {
	const char *data;
	Py_ssize_t bytes;
};

static inline bool view_of(PyObject *object, struct view *view)
{
	char *data;
	if (PyBytes_AsStringAndSize(object, &data, &view->bytes) < 0)
		return false;
	view->data = data;
	return true;
}

// PyMem_Free() frees it. PyMem_Calloc() is of the stable interface, but not in 3.9's headers of it.
static inline void *zeroed(size_t count, size_t bytes)
{
	void *made = count <= PY_SSIZE_T_MAX / bytes ? PyMem_Malloc(count * bytes) : NULL;
	return made ? memset(made, 0, count * bytes) : NULL;
}

static inline uint64_t number_at(const char *at, int width)
{
	uint64_t word = 0;
	memcpy(&word, at, (size_t)width); // little endian, as recordings are
	return word;
}

static inline uint32_t half_at(const char *at)
{
	uint32_t half;
	memcpy(&half, at, sizeof(half));
	return half;
}

static inline uint64_t word_at(const char *at)
{
	uint64_t word;
	memcpy(&word, at, sizeof(word));
	return word;
}

static inline int put(PyObject *list, Py_ssize_t at, uint64_t value)
{
	PyObject *number = PyLong_FromUnsignedLongLong(value);
	return number ? PyList_SetItem(list, at, number) : -1;
}

// Where the record of *kind* at a reference begins, and its length; NULL when it is none, shorter than *least*, or not all there.
static inline const char *record_at(const struct view *raw, uint64_t ref, unsigned kind, uint32_t least, uint32_t *length)
{
	if (ref < MLF_ROOM_OFFSET / MLF_REF_BYTES || ref > (uint64_t)raw->bytes / MLF_REF_BYTES)
		return NULL;
	uint64_t room = (uint64_t)raw->bytes - ref * MLF_REF_BYTES;
	const char *at = raw->data + ref * MLF_REF_BYTES;
	if (room < sizeof(struct mlf_record))
		return NULL;
	uint64_t head = word_at(at);
	*length = (uint32_t)head;
	return (head >> 32 & 0xFFFF) == kind && *length >= least && *length <= room ? at : NULL;
}

// Records lie apart, and were copied a while ago.
static inline void record_fetch(const struct view *raw, uint64_t ref)
{
	if (ref < (uint64_t)raw->bytes / MLF_REF_BYTES)
		__builtin_prefetch(raw->data + ref * MLF_REF_BYTES);
}

// One bit for each reference of a recording, all 0.
static inline size_t bitmap_bytes(const struct view *raw)
{
	return (size_t)raw->bytes / MLF_REF_BYTES / 8 + 1;
}

static inline bool bit_set(unsigned char *bits, uint64_t ref) // returns what it was
{
	unsigned char bit = (unsigned char)(1u << (ref & 7)), was = bits[ref >> 3] & bit;
	bits[ref >> 3] |= bit;
	return was != 0;
}

// Python's integers of a list or another iterable. NULL: an error is set. Those that are no 64 bits: *odd* is true, and 0 stands there.
uint64_t *numbers_of(PyObject *iterable, Py_ssize_t *count, bool *odd);

// Whether numbers are all different. False may also mean that it was not found out: they are chosen by whoever wrote the file.
int all_different(const uint64_t *numbers, Py_ssize_t count); // -1: no memory

PyObject *columns_fields(PyObject *module, PyObject *args);
PyObject *columns_rows(PyObject *module, PyObject *args);
PyObject *columns_stacks(PyObject *module, PyObject *args);
PyObject *columns_stand(PyObject *module, PyObject *args);
PyObject *columns_distinct(PyObject *module, PyObject *args);
PyObject *columns_live(PyObject *module, PyObject *args);
PyObject *columns_at(PyObject *module, PyObject *args);
PyObject *columns_owners(PyObject *module, PyObject *args);
PyObject *columns_sums(PyObject *module, PyObject *args);
PyObject *columns_squares(PyObject *module, PyObject *args);
PyObject *columns_places(PyObject *module, PyObject *args);
PyObject *columns_history(PyObject *module, PyObject *args);
PyObject *columns_lines(PyObject *module, PyObject *args);
PyObject *columns_order(PyObject *module, PyObject *args);

#endif
