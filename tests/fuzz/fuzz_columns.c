// fuzz_columns.c -- the columns of a recording, whatever its bytes, what is asked for, and where memory ends
//
// The module is imported, and each of its functions is one of those below: one more and the target says so. Nothing but the
// errors that callers expect may come, and all that was given has as many owners afterwards.
// fuzz: python
// fuzz: with columns/*
#include "columns_models.h"

#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>

PyMODINIT_FUNC PyInit__columns(void);

int LLVMFuzzerInitialize(int *count, char ***words);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

// ---- memory that ends -----------------------------------------------------------------------------------

static unsigned until_failure; // 0: none

static bool fails(void)
{
	return until_failure && !--until_failure;
}

static void *take(void *context, size_t bytes)
{
	(void)context;
	return fails() ? NULL : malloc(bytes ? bytes : 1);
}

static void *take_zeroed(void *context, size_t number, size_t bytes)
{
	(void)context;
	return fails() ? NULL : number && bytes ? calloc(number, bytes) : calloc(1, 1);
}

static void *take_again(void *context, void *block, size_t bytes)
{
	(void)context;
	return fails() ? NULL : realloc(block, bytes ? bytes : 1);
}

static void give(void *context, void *block)
{
	(void)context;
	free(block);
}

// ---- what is asked --------------------------------------------------------------------------------------

static PyObject *ask_fields(struct input *input)
{
	PyObject **n = input->numbers;
	switch (input->amiss) {
	case 10: return Py_BuildValue("(OO())", input->raw, input->list);
	case 11: return Py_BuildValue("(OO(iiiiiiiiiiiiiiiii))", input->raw, input->list, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	case 12: return Py_BuildValue("(OO(O))", input->raw, input->list, n[0]);
	case 13: return Py_BuildValue("(OO[(OO)])", input->raw, input->list, n[0], n[1]);
	default: break;
	}
	return Py_BuildValue("(OO((OO)(OO)(OO)))", input->raw, input->list, n[0], n[1], n[2], n[3], n[4], n[5]);
}

static PyObject *ask_rows(struct input *input)
{
	return Py_BuildValue("(OO)", input->raw, input->other);
}

static PyObject *ask_records(struct input *input)
{
	return Py_BuildValue("(OOOO)", input->raw, input->list, input->numbers[0], input->numbers[1]);
}

static PyObject *ask_distinct(struct input *input)
{
	return Py_BuildValue("(OOO)", input->raw, input->list, input->numbers[0]);
}

static PyObject *ask_live(struct input *input)
{
	return Py_BuildValue("(OOO)", input->raw, input->numbers[0], input->numbers[1]);
}

static PyObject *ask_at(struct input *input)
{
	return Py_BuildValue("(OO)", input->raw, input->numbers[0]);
}

static PyObject *ask_owners(struct input *input)
{
	input_cut(input, 0);
	return Py_BuildValue("(OOO)", input->list, input->raw, input->numbers[0]);
}

static PyObject *ask_sums(struct input *input)
{
	input_cut(input, 0);
	return Py_BuildValue("(OOOO)", input->raw, input->numbers[0], input->other, input->third);
}

static PyObject *ask_order(struct input *input)
{
	return Py_BuildValue("(OO)", input->half[0], input->half[1]);
}

static PyObject *ask_places(struct input *input)
{
	return Py_BuildValue("(OOOO)", input->raw, input->numbers[0], input->numbers[1], input->other);
}

static PyObject *ask_history(struct input *input)
{
	PyObject **n = input->numbers;
	return Py_BuildValue("(OOOOOOO)", input->raw, n[0], n[1], n[2], n[3], n[4], n[5]);
}

static PyObject *ask_lines(struct input *input)
{
	PyObject **n = input->numbers;
	return Py_BuildValue("(OOOO)", n[0], input->raw, n[1], n[2]);
}

static struct function {
	const char *name;
	PyObject *(*ask)(struct input *);
	void (*model)(const struct input *, PyObject *);
	PyObject *called;
} functions[] = {
	{"fields", ask_fields, model_fields, NULL},	   {"rows", ask_rows, model_rows, NULL},       {"stacks", ask_records, model_stacks, NULL},
	{"stand", ask_records, model_stand, NULL},	   {"distinct", ask_distinct, model_distinct, NULL}, {"live", ask_live, model_live, NULL},
	{"at", ask_at, model_at, NULL},		   {"owners", ask_owners, model_owners, NULL}, {"sums", ask_sums, model_sums, NULL},
	{"order", ask_order, model_order, NULL},	   {"places", ask_places, model_places, NULL}, {"history", ask_history, model_history, NULL},
	{"lines", ask_lines, model_lines, NULL},		   {"squares", ask_sums, model_squares, NULL},
};

#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

static void import(void)
{
	PyObject *module = PyImport_ImportModule("_columns"), *names = PyObject_Dir(module);
	size_t public = 0;
	for (Py_ssize_t i = 0; i < PyList_Size(names); i++)
		public += PyUnicode_ReadChar(PyList_GetItem(names, i), 0) != '_';
	require(public == FUNCTIONS);
	for (size_t f = 0; f < FUNCTIONS; f++)
		require((functions[f].called = PyObject_GetAttrString(module, functions[f].name)) != NULL);
	Py_DECREF(names);
}

int LLVMFuzzerInitialize(int *count, char ***words)
{
	(void)count, (void)words;
	static PyMemAllocatorEx allocator = {NULL, take, take_zeroed, take_again, give}; // each block is guarded by itself
	PyPreConfig early;
	PyConfig config;
	PyPreConfig_InitIsolatedConfig(&early);
	early.allocator = PYMEM_ALLOCATOR_MALLOC;
	PyConfig_InitIsolatedConfig(&config);
	config.site_import = 0;
	config.install_signal_handlers = 0;
	__lsan_disable(); // what an interpreter keeps for its life
	if (PyImport_AppendInittab("_columns", PyInit__columns) || PyStatus_Exception(Py_PreInitialize(&early)))
		abort();
	PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &allocator);
	PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &allocator);
	if (PyStatus_Exception(PyConfig_SetBytesString(&config, &config.program_name, PYTHON)) ||
	    PyStatus_Exception(Py_InitializeFromConfig(&config)))
		abort();
	PyConfig_Clear(&config);
	import();
	__lsan_enable();
	return 0;
}

// ---- one input ------------------------------------------------------------------------------------------

#define GIVEN (6 + NUMBERS)

static bool is_expected(void)
{
	return PyErr_ExceptionMatches(PyExc_IndexError) || PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_OverflowError) ||
	       PyErr_ExceptionMatches(PyExc_TypeError);
}

// The NUL behind bytes is nobody's to read.
static void guard(const struct input *input, bool on)
{
	const struct view *views[] = {&input->bytes, &input->of_other, &input->of_third};
	for (int v = 0; v < 3; v++) {
		if (views[v]->bytes <= 1)
			continue; // the interpreter's own
		if (on)
			ASAN_POISON_MEMORY_REGION(views[v]->data + views[v]->bytes, 1);
		else
			ASAN_UNPOISON_MEMORY_REGION(views[v]->data + views[v]->bytes, 1);
	}
}

static void try_one(const struct function *function, struct input *input)
{
	PyObject *args = function->ask(input);
	PyObject *given[GIVEN] = {input->raw, input->other, input->third, input->list, input->half[0], input->half[1]};
	Py_ssize_t owners[GIVEN], of_none = Py_REFCNT(Py_None), of_true = Py_REFCNT(Py_True), of_false = Py_REFCNT(Py_False);
	memcpy(given + 6, input->numbers, sizeof(input->numbers));
	for (int g = 0; g < GIVEN; g++)
		owners[g] = Py_REFCNT(given[g]);
	guard(input, true);
	until_failure = input->fails;
	PyObject *found = PyObject_CallObject(function->called, args);
	bool failed = input->fails && !until_failure;
	until_failure = 0;
	guard(input, false);
	require((found == NULL) == (PyErr_Occurred() != NULL));
	if (found)
		function->model(input, found);
	else
		require(failed ? PyErr_ExceptionMatches(PyExc_MemoryError) || is_expected() : is_expected());
	require(!found || !PyErr_Occurred());
	PyErr_Clear();
	Py_XDECREF(found);
	for (int g = 0; g < GIVEN; g++)
		require(Py_REFCNT(given[g]) == owners[g]);
	require(Py_REFCNT(Py_None) == of_none && Py_REFCNT(Py_True) == of_true && Py_REFCNT(Py_False) == of_false);
	Py_DECREF(args);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input;
	if (!input_read(&input, data, bytes))
		return 0;
	try_one(&functions[data[0] % FUNCTIONS], &input);
	PyObject *given[] = {input.raw, input.other, input.third, input.list, input.half[0], input.half[1]};
	for (size_t g = 0; g < sizeof(given) / sizeof(given[0]); g++)
		Py_DECREF(given[g]);
	for (int n = 0; n < NUMBERS; n++)
		Py_DECREF(input.numbers[n]);
	return 0;
}
