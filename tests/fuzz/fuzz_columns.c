// fuzz_columns.c -- the columns of a recording, whatever its bytes and what is asked for
//
// Input: what is asked (1 byte: bit 0 gather or the live set, bits 1..2 the width, for the live set whether entries are made
// whole, bits 3..7 the number of references), an offset (4 bytes; the highest bit: counted from the end), a capacity (2), the
// references (2 each), and the bytes.
// fuzz: python
#include "../../native/columns/columns.c"

#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *count, char ***words);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerInitialize(int *count, char ***words)
{
	(void)count, (void)words;
	PyPreConfig early;
	PyConfig config;
	PyPreConfig_InitIsolatedConfig(&early);
	early.allocator = PYMEM_ALLOCATOR_MALLOC; // each block is guarded by itself
	PyConfig_InitIsolatedConfig(&config);
	config.site_import = 0;
	config.install_signal_handlers = 0;
	__lsan_disable(); // what an interpreter keeps for its life
	if (PyStatus_Exception(Py_PreInitialize(&early)) || PyStatus_Exception(PyConfig_SetBytesString(&config, &config.program_name, PYTHON)) ||
	    PyStatus_Exception(Py_InitializeFromConfig(&config)))
		abort();
	PyConfig_Clear(&config);
	__lsan_enable();
	return 0;
}

static void require(int holds)
{
	if (!holds)
		abort();
}

// Numbers of Python's are below 2^width, and each stands where its reference says.
static void check_gathered(PyObject *found, const char *raw, PyObject *refs, Py_ssize_t offset, int width)
{
	require(PyList_CheckExact(found) && PyList_Size(found) == PyList_Size(refs));
	for (Py_ssize_t i = 0; i < PyList_Size(found); i++) {
		uint64_t right = 0;
		memcpy(&right, raw + 16 * PyLong_AsSsize_t(PyList_GetItem(refs, i)) + offset, (size_t)width);
		require(PyLong_AsUnsignedLongLong(PyList_GetItem(found, i)) == right);
	}
}

// No fuzzer guesses a check word.
static void make_whole(char *raw, size_t bytes, Py_ssize_t offset, size_t capacity)
{
	for (size_t i = 0; offset >= 0 && i < capacity; i++) {
		size_t key_at = (size_t)offset + 8 * i, at = (size_t)offset + 8 * capacity + sizeof(struct mlf_live) * i;
		struct mlf_live entry;
		if (at + sizeof(entry) > bytes)
			return;
		uint64_t key = number_at(raw + key_at, 8);
		memcpy(&entry, raw + at, sizeof(entry));
		entry.check = mlf_live_check(key, entry.size_bytes, entry.row, entry.weight_x1024, entry.born_cs, entry.thread);
		memcpy(raw + at, &entry, sizeof(entry));
	}
}

static void check_live(PyObject *found, Py_ssize_t capacity)
{
	require(PyTuple_Size(found) == COLUMNS + 2);
	Py_ssize_t count = PyList_Size(PyTuple_GetItem(found, 0));
	Py_ssize_t torn = PyLong_AsSsize_t(PyTuple_GetItem(found, COLUMNS));
	Py_ssize_t beyond = PyLong_AsSsize_t(PyTuple_GetItem(found, COLUMNS + 1));
	require(count >= 0 && torn >= 0 && beyond >= 0 && count + torn + beyond <= capacity);
	for (int c = 0; c < COLUMNS; c++)
		require(PyList_Size(PyTuple_GetItem(found, c)) == count);
	for (Py_ssize_t i = 0; i < count; i++) {
		require(PyLong_AsUnsignedLongLong(PyList_GetItem(PyTuple_GetItem(found, 2), i)) >= 1024);
		require(PyLong_AsUnsignedLongLong(PyList_GetItem(PyTuple_GetItem(found, 5), i)) < MLF_LAYER_NO_SAMPLE);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const int widths[] = {4, 8, 4, 3};
	if (bytes < 7)
		return 0;
	size_t references = data[0] >> 3;
	uint32_t place;
	uint16_t capacity;
	memcpy(&place, data + 1, sizeof(place));
	memcpy(&capacity, data + 5, sizeof(capacity));
	if (bytes < 7 + 2 * references)
		return 0;
	PyObject *refs = PyList_New((Py_ssize_t)references);
	for (size_t i = 0; i < references; i++) {
		uint16_t ref;
		memcpy(&ref, data + 7 + 2 * i, sizeof(ref));
		// Few of them lead far away: bits 12 and up say how far.
		PyList_SetItem(refs, (Py_ssize_t)i, PyLong_FromUnsignedLongLong((uint64_t)(ref & 0xFFF) << 4 * (ref >> 12)));
	}
	size_t rest = bytes - 7 - 2 * references;
	PyObject *raw = PyBytes_FromStringAndSize((const char *)data + bytes - rest, (Py_ssize_t)rest);
	Py_ssize_t owners = Py_REFCNT(raw); // many, of a byte or none
	char *at = PyBytes_AsString(raw);
	Py_ssize_t offset = place >> 31 ? (Py_ssize_t)rest - (Py_ssize_t)(place & 0xFFFF) : (Py_ssize_t)place;
	if ((data[0] & 3) == 3)
		make_whole(at, rest, offset, capacity);
	ASAN_POISON_MEMORY_REGION(at + rest, 1); // the NUL behind them is nobody's to read
	int width = widths[data[0] >> 1 & 3];
	PyObject *args = data[0] & 1 ? Py_BuildValue("(Onn)", raw, offset, (Py_ssize_t)capacity) : Py_BuildValue("(OOni)", raw, refs, offset, width);
	PyObject *found = data[0] & 1 ? live(NULL, args) : gather(NULL, args);
	require((found == NULL) == (PyErr_Occurred() != NULL));
	if (!found)
		require(PyErr_ExceptionMatches(PyExc_IndexError) || PyErr_ExceptionMatches(PyExc_ValueError));
	else if (data[0] & 1)
		check_live(found, capacity);
	else
		check_gathered(found, at, refs, offset, width);
	PyErr_Clear();
	ASAN_UNPOISON_MEMORY_REGION(at + rest, 1);
	Py_XDECREF(found);
	Py_DECREF(args);
	require(Py_REFCNT(refs) == 1 && Py_REFCNT(raw) == owners);
	Py_DECREF(refs);
	Py_DECREF(raw);
	return 0;
}
