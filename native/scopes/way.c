// way.c -- how `with` reaches __enter__ and __exit__ without making a bound method
//
// Context:   Python's, with the GIL, which alone keeps the count of a way and that of its object together.
// Invariant: while a way's count is above 0 it has one reference to its object. The count is 0 whenever the object is freed.
// Why:       `with` asks the type for both methods and has each bound to the object, which makes and frees an object: a fifth of
//            what a switch takes on CPython 3.12. From 3.14 on it does not bind them. docs/adr/0020-labels.md
// Proof:     tests/integration/test_label_scopes.py, test_outcome.py
#include "way.h"

// Of CPython's stable interface since 3.12; the bit and what it means are older.
#define HAVE_VECTORCALL (1UL << 11)

#define ARGUMENTS_MOST 4 // nobody looks at more

static void way_dealloc(PyObject *self)
{
	PyObject *object = way_object(self);
	Py_DECREF(object);
}

static PyObject *way_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	(void)type, (void)args, (void)kwargs;
	PyErr_SetString(PyExc_TypeError, "ways are part of labels: they cannot be made");
	return NULL;
}

static PyObject *way_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
	PyObject *given[ARGUMENTS_MOST];
	Py_ssize_t count = PyTuple_Size(args);
	for (Py_ssize_t i = 0; i < count && i < ARGUMENTS_MOST; i++)
		given[i] = PyTuple_GetItem(args, i);
	return ((struct way *)self)->call(self, given, (size_t)(count < ARGUMENTS_MOST ? count : ARGUMENTS_MOST), kwargs);
}

static PyMemberDef way_members[] = {
	{"__vectorcalloffset__", T_PYSSIZET, offsetof(struct way, call), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot way_slots[] = {
	{Py_tp_doc, "A method of the object that it is part of."},
	{Py_tp_new, way_new},
	{Py_tp_dealloc, way_dealloc},
	{Py_tp_call, way_call},
	{Py_tp_members, way_members},
	{0, NULL},
};

void way_begin(struct way *self, const struct home *home, void *object, way_function call)
{
	Py_INCREF(home->way_type);
	((PyObject *)self)->ob_type = home->way_type;
	self->call = call;
	self->offset = (size_t)((char *)self - (char *)object);
}

void way_end(struct way *self)
{
	PyTypeObject *type = Py_TYPE(self);
	Py_XDECREF(type);
}

// ---- in the type ------------------------------------------------------------------------------------------

struct entrance {
	PyObject_HEAD
	PyObject *method; // the plain one, for who asks the type
	PyTypeObject *of;
	size_t offset;
};

static PyObject *entrance_get(PyObject *descriptor, PyObject *object, PyObject *type)
{
	(void)type;
	const struct entrance *self = (struct entrance *)descriptor;
	if (!object) {
		Py_INCREF(self->method);
		return self->method;
	}
	if (Py_TYPE(object) != self->of && !PyType_IsSubtype(Py_TYPE(object), self->of)) {
		PyErr_SetString(PyExc_TypeError, "a label was expected");
		return NULL;
	}
	PyObject *way = (PyObject *)((char *)object + self->offset);
	if (!Py_REFCNT(way))
		Py_INCREF(object);
	Py_INCREF(way);
	return way;
}

static int entrance_traverse(PyObject *object, visitproc visit, void *arg)
{
	struct entrance *self = (struct entrance *)object;
	Py_VISIT(Py_TYPE(object));
	Py_VISIT(self->method);
	Py_VISIT(self->of);
	return 0;
}

static void entrance_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	PyObject_GC_UnTrack(object);
	Py_CLEAR(((struct entrance *)object)->method);
	Py_CLEAR(((struct entrance *)object)->of);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

static PyType_Slot entrance_slots[] = {
	{Py_tp_doc, "What finds the way of an object."},
	{Py_tp_new, way_new},
	{Py_tp_descr_get, entrance_get},
	{Py_tp_traverse, entrance_traverse},
	{Py_tp_dealloc, entrance_dealloc},
	{0, NULL},
};

PyObject *way_entrance(const struct home *home, PyTypeObject *of, PyMethodDef *definition, size_t offset)
{
	PyObject *method = PyDescr_NewMethod(of, definition);
	if (!method)
		return NULL;
	struct entrance *self = (struct entrance *)((allocfunc)PyType_GetSlot(home->entrance_type, Py_tp_alloc))(home->entrance_type, 0);
	if (!self) {
		Py_DECREF(method);
		return NULL;
	}
	Py_INCREF(of);
	self->method = method;
	self->of = of;
	self->offset = offset;
	return (PyObject *)self;
}

int way_make_types(PyObject *module, struct home *home)
{
	static PyType_Spec way = {"memleak._scopes.Way", sizeof(struct way), 0, Py_TPFLAGS_DEFAULT | HAVE_VECTORCALL, way_slots};
	static PyType_Spec entrance = {
		"memleak._scopes.Entrance", sizeof(struct entrance), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, entrance_slots,
	};
	home->way_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &way, NULL);
	home->entrance_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &entrance, NULL);
	return home->way_type && home->entrance_type ? 0 : -1;
}
