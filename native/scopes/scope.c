// scope.c -- the labels in force: the value of the context variable
//
// Context:   Python's, with the GIL; the two words of a scope that the core reads may be read at any moment.
// Invariant: a scope that is kept lies within kept ones; what lies within an entry, or is one, is a copy of a kept one. A copy holds
//            on to its label and so to the home; no spare is in force, holds on to anything, or is known to the garbage collector.
//            No chain of scopes that are entered is longer than SCOPE_DEEPEST: see scope_flat().
// Why:       each entry whose outcome is to be known needs an object of its own: those that are over serve again, a third of what
//            making one takes. docs/adr/0020-labels.md, docs/adr/0023-outcome.md
// Proof:     tests/integration/test_label_scopes.py, test_outcome.py
#include "scope.h"

#define SPARES_MOST 32U
#define KEPT_DEEPEST 16U

static int scope_traverse(struct scope *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->outer);
	Py_VISIT(self->labels);
	Py_VISIT(self->inner);
	Py_VISIT(self->kept);
	Py_VISIT(self->owner);
	return 0;
}

// One after another: of a chain that is freed one within another a small stack overflows.
static void drop_chain(struct scope *scope)
{
	while (scope && Py_REFCNT(scope) == 1) {
		struct scope *outer = scope->outer;
		scope->outer = NULL;
		Py_DECREF(scope);
		scope = outer;
	}
	Py_XDECREF(scope);
}

static int scope_clear(struct scope *self)
{
	struct scope *outer = self->outer;
	self->outer = NULL;
	drop_chain(outer);
	Py_CLEAR(self->labels);
	Py_CLEAR(self->inner);
	Py_CLEAR(self->kept);
	Py_CLEAR(self->owner);
	return 0;
}

static void scope_dealloc(PyObject *object)
{
	struct scope *self = (struct scope *)object;
	PyObject *owner = self->owner; // for the last: the home goes with it
	PyTypeObject *type = Py_TYPE(self);
	PyObject_GC_UnTrack(self);
	self->owner = NULL;
	scope_clear(self);
#ifndef Py_GIL_DISABLED
	if (owner && self->home->spare < SPARES_MOST) {
		self->outer = self->home->spares;
		self->home->spares = self;
		self->home->spare++;
		object = NULL;
	}
#endif
	if (object)
		((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
	Py_XDECREF(owner);
}

void scope_drop_spares(struct home *home)
{
	struct scope *spare;
	while ((spare = home->spares)) {
		home->spares = spare->outer;
		PyObject_GC_Del(spare);
	}
	home->spare = 0;
}

static struct scope *allocate(PyTypeObject *type) // zeroed
{
	return (struct scope *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
}

// By no label: such a one is never a spare.
static struct scope *new_scope(PyTypeObject *type, struct scope *outer, PyObject *labels)
{
	struct scope *self = allocate(type);
	if (!self)
		return NULL;
	self->outer = outer ? outer : self;
	self->depth = outer ? outer->depth + 1 : 0;
	Py_INCREF(self->outer);
	Py_XINCREF(labels);
	self->labels = labels;
	return self;
}

struct scope *scope_copy(struct home *home, struct scope *kept, struct scope *outer, PyObject *owner)
{
	struct scope *self = home->spares;
	const int spare = self != NULL;
	if (spare) {
		home->spares = self->outer;
		home->spare--;
		Py_INCREF(self); // from none
		Py_INCREF(home->scope_type);
		self->inner = NULL;
	} else if (!(self = allocate(home->scope_type))) {
		Py_DECREF(kept);
		return NULL;
	}
	Py_INCREF(outer), Py_XINCREF(kept->labels), Py_INCREF(owner);
	self->outer = outer;
	self->labels = kept->labels;
	self->owner = owner;
	self->number = kept->number;
	self->entry = 0;
	self->kept = kept;
	self->home = home;
	self->began = 0;
	self->depth = outer->depth + 1;
	self->open = 0;
	if (spare)
		PyObject_GC_Track(self);
	return self;
}

// What is started under labels begins with them, and never leaves them: a callback that makes its successor, a thread that starts the
// next one, go deeper without end.
struct scope *scope_flat(struct scope *scope)
{
	struct scope *outermost = scope->outer, *made = NULL;
	while (outermost && outermost->outer && outermost->outer != outermost)
		outermost = outermost->outer;
	if (outermost && (made = new_scope(Py_TYPE(scope), outermost, scope->labels))) {
		made->number = scope->number;
		made->entry = scope->entry;
		if (scope->kept) {
			Py_INCREF(scope->kept);
			made->kept = scope_flat(scope->kept);
		}
		if (scope->kept && !made->kept) {
			Py_DECREF(made);
			made = NULL;
		}
	}
	Py_DECREF(scope);
	return made;
}

static PyObject *scope_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *outer, *labels;
	unsigned number;
	int keep;
	static char *names[] = {"outer", "labels", "number", "keep", NULL};
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!Ip", names, &outer, &PyDict_Type, &labels, &number, &keep))
		return NULL;
	if (outer != Py_None && Py_TYPE(outer) != type) {
		PyErr_SetString(PyExc_TypeError, "outer is no scope");
		return NULL;
	}
	struct scope *self = new_scope(type, outer == Py_None ? NULL : (struct scope *)outer, labels);
	if (!self)
		return NULL;
	self->number = number;
	if (keep && self->depth <= KEPT_DEEPEST && !(self->inner = PyDict_New())) {
		Py_DECREF(self);
		return NULL;
	}
	return (PyObject *)self;
}

static PyMemberDef scope_members[] = {
	{"outer", T_OBJECT, offsetof(struct scope, outer), READONLY, "the scope that leaving this one puts in force"},
	{"labels", T_OBJECT, offsetof(struct scope, labels), READONLY, "all labels in force, as text"},
	{"inner", T_OBJECT, offsetof(struct scope, inner), 0, "what was given -> scope; None: none is kept"},
	{"number", T_UINT, offsetof(struct scope, number), 0, "number of the set of labels; 0: not known"},
	{"entry", T_UINT, offsetof(struct scope, entry), READONLY, "the entry whose outcome will be known; 0: none"},
	{"began", T_UINT, offsetof(struct scope, began), READONLY, "samples noted before this entry"},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot scope_slots[] = {
	{Py_tp_doc, "The labels in force."},
	{Py_tp_new, scope_new},
	{Py_tp_dealloc, scope_dealloc},
	{Py_tp_traverse, scope_traverse},
	{Py_tp_clear, scope_clear},
	{Py_tp_members, scope_members},
	{0, NULL},
};

PyTypeObject *scope_make_type(PyObject *module)
{
	static PyType_Spec spec = {"memleak._scopes.Scope", sizeof(struct scope), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, scope_slots};
	return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}

