// own_module.cc -- own.c as an extension module of C++
#define Py_LIMITED_API 0x03090000
#include <Python.h>

#include "own.c"

static PyObject *module_make(PyObject *, PyObject *count)
{
	own_make((int)PyLong_AsLong(count));
	Py_RETURN_NONE;
}

static PyObject *module_drop(PyObject *, PyObject *)
{
	own_drop();
	Py_RETURN_NONE;
}

static PyObject *module_report(PyObject *, PyObject *count)
{
	own_report((int)PyLong_AsLong(count));
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"own_make", module_make, METH_O, nullptr},
				{"own_drop", module_drop, METH_NOARGS, nullptr},
				{"own_report", module_report, METH_O, nullptr},
				{nullptr, nullptr, 0, nullptr}};
static PyModuleDef_Slot slots[] = {{0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "own", nullptr, 0, methods, slots, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_own() { return PyModuleDef_Init(&definition); }
