// cpp_module.cc -- cpp_forms.cc as an extension module of C++, -DNAME=its name: keep(ROUNDS), release(), ledger()
#define Py_LIMITED_API 0x03090000
#include <Python.h>

#include "cpp_forms.cc"

static PyObject *module_keep(PyObject *, PyObject *rounds)
{
	return PyLong_FromLong(keep((int)PyLong_AsLong(rounds)));
}

static PyObject *module_release(PyObject *, PyObject *)
{
	release();
	Py_RETURN_NONE;
}

static PyObject *module_ledger(PyObject *, PyObject *)
{
	ledger();
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"keep", module_keep, METH_O, nullptr},
				{"release", module_release, METH_NOARGS, nullptr},
				{"ledger", module_ledger, METH_NOARGS, nullptr},
				{nullptr, nullptr, 0, nullptr}};
static PyModuleDef_Slot slots[] = {{0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "cpp_module", nullptr, 0, methods, slots, nullptr, nullptr, nullptr};

#define INIT_OF(name) PyInit_##name
#define INIT(name) INIT_OF(name)
PyMODINIT_FUNC INIT(NAME)() { return PyModuleDef_Init(&definition); }
