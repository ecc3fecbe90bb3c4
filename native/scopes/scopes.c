// scopes.c -- the module memleak._scopes: labels in force, and labels that put others in force
//
// Context:   Python's, with the GIL.
// Invariant: the state of a module is of one interpreter, and outlives all labels and copies: they hold on to the module.
// Why:       of the limited API, like the other modules: one file for every CPython. docs/adr/0020-labels.md
// Proof:     tests/integration/test_label_scopes.py, test_outcome.py
#include "home.h"
#include "label.h"
#include "scope.h"
#include "way.h"

// Of CPython 3.12 and 3.13: earlier headers do not know them.
#define SLOT_MULTIPLE_INTERPRETERS 3
#define SLOT_GIL 4
#define OWN_GIL_SUPPORTED ((void *)2)
#define GIL_NOT_USED ((void *)1)

static PyObject *set_up(PyObject *module, PyObject *args)
{
	struct home *home = PyModule_GetState(module);
	PyObject *variable, *find, *failed;
	if (!PyArg_ParseTuple(args, "OOO", &variable, &find, &failed))
		return NULL;
	if (home->variable) {
		PyErr_SetString(PyExc_RuntimeError, "set up already");
		return NULL;
	}
	Py_INCREF(variable), Py_INCREF(find), Py_INCREF(failed);
	home->variable = variable, home->find = find, home->failed = failed;
	Py_RETURN_NONE;
}

static PyObject *join(PyObject *module, PyObject *args)
{
	(void)module;
	unsigned long long counter, function;
	if (!PyArg_ParseTuple(args, "KK", &counter, &function))
		return NULL;
	label_join((const uint32_t *)(uintptr_t)counter, (void (*)(unsigned))(uintptr_t)function);
	Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
	{"set_up", set_up, METH_VARARGS, "Tell the context variable, what finds a kept scope, and what is done with a failed entry."},
	{"join", join, METH_VARARGS, "Tell two addresses in the core: how many samples it has noted, and what counts an entry that was left."},
	{NULL, NULL, 0, NULL},
};

static long hex_version(void)
{
	PyObject *version = PySys_GetObject("hexversion");
	return version ? PyLong_AsLong(version) : 0;
}

// Takes a reference to the type.
static int offer(PyObject *module, const char *name, PyTypeObject *type)
{
	if (type && PyModule_AddObject(module, name, (PyObject *)type) == 0)
		return 0;
	Py_XDECREF(type);
	return -1;
}

static int begin(PyObject *module)
{
	struct home *home = PyModule_GetState(module);
	home->hex_version = hex_version();
	home->scope_type = scope_make_type(module);
	if (!home->scope_type || way_make_types(module, home))
		return -1;
	Py_INCREF(home->scope_type);
	if (offer(module, "Scope", home->scope_type) || offer(module, "Label", label_make_type(module, home)))
		return -1;
	return PyModule_AddIntConstant(module, "NUMBER_OFFSET", offsetof(struct scope, number));
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
	struct home *home = PyModule_GetState(module);
	if (!home)
		return 0;
	Py_VISIT(home->variable);
	Py_VISIT(home->find);
	Py_VISIT(home->failed);
	Py_VISIT(home->scope_type);
	Py_VISIT(home->way_type);
	Py_VISIT(home->entrance_type);
	return 0;
}

static int module_clear(PyObject *module)
{
	struct home *home = PyModule_GetState(module);
	if (!home)
		return 0;
	Py_CLEAR(home->variable);
	Py_CLEAR(home->find);
	Py_CLEAR(home->failed);
	Py_CLEAR(home->scope_type);
	Py_CLEAR(home->way_type);
	Py_CLEAR(home->entrance_type);
	scope_drop_spares(home);
	return 0;
}

static void module_free(void *module) { module_clear(module); }

PyMODINIT_FUNC PyInit__scopes(void)
{
	static PyModuleDef_Slot slots[4] = {{Py_mod_exec, begin}};
	static PyModuleDef definition = {
		PyModuleDef_HEAD_INIT, "memleak._scopes", "The labels in force.", sizeof(struct home), functions, slots,
		module_traverse, module_clear, module_free,
	};
	if (hex_version() >= 0x030C0000)
		slots[1] = (PyModuleDef_Slot){SLOT_MULTIPLE_INTERPRETERS, OWN_GIL_SUPPORTED};
#ifdef Py_GIL_DISABLED
	slots[2] = (PyModuleDef_Slot){SLOT_GIL, GIL_NOT_USED};
#endif
	return PyModuleDef_Init(&definition);
}
