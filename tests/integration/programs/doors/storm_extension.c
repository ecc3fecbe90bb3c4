// storm_extension.c -- a small extension module of which a storm imports many copies
//
// churn(ROUNDS) allocates and frees without the interpreter's lock. keep(COUNT, BYTES) leaves blocks behind. hold(BYTES)
// returns a block's address, for drop(ADDRESS). What its import allocated goes when it is unloaded.
#define Py_LIMITED_API 0x03090000
#include <Python.h>
#include <stdlib.h>

static void *volatile last;
static void *volatile from_import;

__attribute__((noinline, noclone)) static void churn_blocks(long rounds)
{
	void *held[32] = {0};
	for (long i = 0; i < rounds; i++) {
		free(held[i % 32]);
		held[i % 32] = i % 3 ? malloc((size_t)(i % 900)) : calloc(3, (size_t)(i % 200));
	}
	for (int k = 0; k < 32; k++)
		free(held[k]);
}

__attribute__((noinline, noclone)) static void keep_block(size_t bytes) { last = malloc(bytes); }

static PyObject *churn(PyObject *self, PyObject *arguments)
{
	long rounds;
	(void)self;
	if (!PyArg_ParseTuple(arguments, "l", &rounds))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	churn_blocks(rounds);
	Py_END_ALLOW_THREADS
	Py_RETURN_NONE;
}

static PyObject *keep(PyObject *self, PyObject *arguments)
{
	long count, bytes;
	(void)self;
	if (!PyArg_ParseTuple(arguments, "ll", &count, &bytes))
		return NULL;
	for (long i = 0; i < count; i++)
		keep_block((size_t)bytes);
	Py_RETURN_NONE;
}

__attribute__((noinline, noclone)) static void *hold_block(size_t bytes)
{
	void *p = malloc(bytes);
	__asm__ volatile("" : "+r"(p));
	return p;
}

static PyObject *hold(PyObject *self, PyObject *bytes)
{
	(void)self;
	return PyLong_FromVoidPtr(hold_block(PyLong_AsSize_t(bytes)));
}

static PyObject *drop(PyObject *self, PyObject *address)
{
	(void)self;
	free(PyLong_AsVoidPtr(address));
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"churn", churn, METH_VARARGS, NULL},
				{"keep", keep, METH_VARARGS, NULL},
				{"hold", hold, METH_O, NULL},
				{"drop", drop, METH_O, NULL},
				{NULL, NULL, 0, NULL}};

static int run(PyObject *module)
{
	(void)module;
	churn_blocks(100);
	free(from_import);
	from_import = malloc(64); // each copy has one of its own
	return from_import ? 0 : -1;
}

static __attribute__((destructor)) void unload(void) { free(from_import); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)run}, {0, NULL}};
static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "storm_extension", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit_storm_extension(void) { return PyModuleDef_Init(&definition); }
