// phases.c -- an extension module whose functions call a Python function each
//
// So every allocation of a part of a Python program has a native frame of its own name on its stack.
#define Py_LIMITED_API 0x03090000
#include <Python.h>

#define PHASE(name)                                                                                \
	static __attribute__((noinline, noclone)) PyObject *phase_##name(PyObject *self, PyObject *f) \
	{                                                                                          \
		(void)self;                                                                        \
		PyObject *result = PyObject_CallFunctionObjArgs(f, NULL);                          \
		__asm__ volatile("" : "+r"(result)); /* no tail call */                            \
		return result;                                                                     \
	}
#define EACH_PHASE(X) X(numpy) X(sqlite) X(lxml) X(zlib) X(ctypes) X(forms) X(cpp) X(late)
EACH_PHASE(PHASE)

#define METHOD(name) {#name, phase_##name, METH_O, NULL},
static PyMethodDef methods[] = {EACH_PHASE(METHOD){NULL, NULL, 0, NULL}};

static PyModuleDef_Slot slots[] = {{0, NULL}};
static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "phases", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit_phases(void) { return PyModuleDef_Init(&definition); }
