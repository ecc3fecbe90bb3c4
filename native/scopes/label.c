// label.c -- how a block enters and leaves labels
//
// Context:   Python's, with the GIL.
// Invariant: the context variable's value is a scope, and a scope is whole before it is set. Leaving puts in force what was before
//            the one in force, whoever set it.
// Why:       entering and leaving a label is what a program pays for at each statement and request: in C it is little more
//            than setting the variable. docs/adr/0020-labels.md, docs/adr/0023-outcome.md
// Proof:     tests/integration/test_labels.py, test_label_scopes.py, test_outcome.py
#include "label.h"

#include "scope.h"
#include "way.h"

#include <dlfcn.h>

#define HEX_3_14 0x030E0000

// Not of the limited interface, but exported by each CPython that has context variables.
static int (*get_variable)(PyObject *variable, PyObject *fallback, PyObject **value);
static PyObject *(*set_variable)(PyObject *variable, PyObject *value);

// The core, once it follows: of the process, as the core is.
static const uint32_t *noted;               // how many samples it has noted under entries
static void (*count_call)(unsigned number); // an entry under this set was left

void label_join(const uint32_t *counter, void (*function)(unsigned number))
{
	noted = counter;
	count_call = function;
}

struct label {
	PyObject_HEAD
	struct way enter, leave;
	PyObject *module; // holds `home`
	struct home *home;
	PyObject *given;    // a dict
	struct scope *last; // that it entered, of those that are kept; NULL: none
	char judges;        // its entries end with an outcome
	char hides;         // `outcome` is given as a text
};

static void label_dealloc(PyObject *self);
static PyObject *way_in(PyObject *way, PyObject *const *args, size_t count, PyObject *names);
static PyObject *way_out(PyObject *way, PyObject *const *args, size_t count, PyObject *names);
static PyMethodDef label_enter_method, label_exit_method;

// The type made below, of which `type` is or is derived.
static PyTypeObject *own_type(PyTypeObject *type)
{
	while (PyType_GetSlot(type, Py_tp_dealloc) != (void *)label_dealloc)
		type = (PyTypeObject *)PyType_GetSlot(type, Py_tp_base);
	return type;
}

static PyObject *label_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	(void)args, (void)kwargs;
	PyObject *module = PyType_GetModule(own_type(type));
	if (!module)
		return NULL;
	struct home *home = PyModule_GetState(module);
	if (!home->way_type) {
		PyErr_SetString(PyExc_RuntimeError, "the interpreter has ended");
		return NULL;
	}
	struct label *self = (struct label *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
	if (!self)
		return NULL;
	Py_INCREF(module);
	self->module = module;
	self->home = home;
	way_begin(&self->enter, home, self, way_in);
	way_begin(&self->leave, home, self, way_out);
	return (PyObject *)self;
}

static int label_init(struct label *self, PyObject *args, PyObject *kwargs)
{
	if (PyTuple_Size(args)) {
		PyErr_SetString(PyExc_TypeError, "label() takes labels by name only: label(tenant_id=7)");
		return -1;
	}
	PyObject *given = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
	if (!given)
		return -1;
	PyObject *outcome = PyDict_GetItemString(given, "outcome");
	int judges = outcome == Py_True, failed = 0;
	if (judges) {
		PyObject *ok = PyUnicode_FromString("ok");
		failed = !ok || PyDict_SetItemString(given, "outcome", ok);
		Py_XDECREF(ok);
	} else if (outcome == Py_False || outcome == Py_None) {
		failed = PyDict_DelItemString(given, "outcome");
		outcome = NULL;
	}
	if (failed) {
		Py_DECREF(given);
		return -1;
	}
	self->judges = (char)judges;
	self->hides = outcome && !judges;
	PyObject *before = self->given;
	self->given = given;
	Py_XDECREF(before);
	Py_CLEAR(self->last);
	return 0;
}

static int label_traverse(struct label *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(Py_TYPE(&self->enter));
	Py_VISIT(Py_TYPE(&self->leave));
	Py_VISIT(self->module);
	Py_VISIT(self->given);
	Py_VISIT(self->last);
	return 0;
}

static int label_clear(struct label *self)
{
	Py_CLEAR(self->given);
	Py_CLEAR(self->last);
	return 0;
}

static void label_dealloc(PyObject *object)
{
	struct label *self = (struct label *)object;
	PyTypeObject *type = Py_TYPE(object);
	PyObject_GC_UnTrack(object);
	label_clear(self);
	way_end(&self->enter);
	way_end(&self->leave);
	Py_CLEAR(self->module);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

// Who asks for a method itself, not by `with`, gets one that the garbage collector knows.
static PyObject *label_getattro(PyObject *self, PyObject *name)
{
	PyObject *found = PyObject_GenericGetAttr(self, name);
	if (!found || Py_TYPE(found) != ((struct label *)self)->home->way_type || way_object(found) != self)
		return found;
	PyMethodDef *method = ((struct way *)found)->call == way_in ? &label_enter_method : &label_exit_method;
	Py_DECREF(found);
	return PyCFunction_NewEx(method, self, NULL);
}

// A new reference. NULL without an error: there are no labels now, because the interpreter ends or somebody has put something else
// into the variable; the program's block runs all the same.
static struct scope *in_force(const struct home *home)
{
	PyObject *found = NULL;
	if (!home->variable || get_variable(home->variable, NULL, &found) < 0)
		return NULL;
	if (found && Py_TYPE(found) == home->scope_type)
		return (struct scope *)found;
	Py_XDECREF(found);
	return NULL;
}

static PyObject *unless_failed(PyObject *result)
{
	if (PyErr_Occurred())
		return NULL;
	Py_INCREF(result);
	return result;
}

static int put_in_force(const struct home *home, struct scope *scope)
{
	PyObject *token = set_variable(home->variable, (PyObject *)scope);
	Py_XDECREF(token);
	return token ? 0 : -1;
}

// The scope of these labels within one that is kept: a new reference.
static struct scope *kept_within(struct label *self, struct scope *kept)
{
	struct scope *inner = self->last;
	if (inner && inner->outer == kept) {
		Py_INCREF(inner);
		return inner;
	}
	PyObject *given = self->given ? self->given : PyDict_New(); // a derived class need not have called __init__()
	if (!given)
		return NULL;
	if (self->given)
		Py_INCREF(given);
	PyObject *found = PyObject_CallFunctionObjArgs(self->home->find, (PyObject *)kept, given, NULL);
	Py_DECREF(given);
	if (!found || Py_TYPE(found) != self->home->scope_type) {
		Py_XDECREF(found);
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_TypeError, "a scope was expected");
		return NULL;
	}
#ifndef Py_GIL_DISABLED // nothing but the GIL keeps two threads apart here
	Py_INCREF(found);
	struct scope *before = self->last;
	self->last = (struct scope *)found;
	Py_XDECREF(before);
#endif
	return (struct scope *)found;
}

static uint32_t next_entry(struct home *home)
{
#ifdef Py_GIL_DISABLED
	uint32_t entry = __atomic_add_fetch(&home->entries, 1, __ATOMIC_RELAXED);
	return entry ? entry : __atomic_add_fetch(&home->entries, 1, __ATOMIC_RELAXED);
#else
	return ++home->entries ? home->entries : ++home->entries; // 0 is none
#endif
}

// A copy of one that is kept, for what is within an entry or is one. Steals `kept`.
static struct scope *copy(struct label *self, struct scope *kept, struct scope *outer)
{
	struct scope *made = scope_copy(self->home, kept, outer, (PyObject *)self);
	if (!made)
		return NULL;
	if (self->judges) {
		made->entry = next_entry(self->home);
		made->began = noted ? __atomic_load_n(noted, __ATOMIC_RELAXED) : 0;
		made->open = 1;
	} else if (!self->hides) {
		made->entry = outer->entry;
	}
	return made;
}

static PyObject *label_enter(struct label *self, PyObject *unused)
{
	(void)unused;
	struct scope *outer = in_force(self->home);
	if (outer && outer->depth >= SCOPE_DEEPEST)
		outer = scope_flat(outer);
	if (!outer)
		return unless_failed((PyObject *)self);
	struct scope *inner = kept_within(self, outer->kept ? outer->kept : outer);
	if (inner && (self->judges || outer->kept))
		inner = copy(self, inner, outer);
	int failed = !inner || put_in_force(self->home, inner);
	Py_DECREF(outer);
	Py_XDECREF(inner);
	if (failed)
		return NULL;
	Py_INCREF(self);
	return (PyObject *)self;
}

// What ends a generator or an iteration is no failure.
static int is_failure(PyObject *kind)
{
	if (kind == Py_None)
		return 0;
	PyObject *const harmless[] = {PyExc_GeneratorExit, PyExc_StopIteration, PyExc_StopAsyncIteration};
	for (unsigned i = 0; i < 3; i++)
		if (PyErr_GivenExceptionMatches(kind, harmless[i]))
			return 0;
	return 1;
}

// The outcome of the innermost entry of this label that has none yet, from `scope` outwards.
static int judge(const struct label *self, struct scope *scope, PyObject *kind)
{
	while (scope && (scope->owner != (PyObject *)self || !scope->open))
		scope = scope->outer == scope ? NULL : scope->outer;
	if (!scope)
		return 0;
	scope->open = 0;
	if (!scope->number && scope->kept) // the core began to follow meanwhile
		scope->number = scope->kept->number;
	if (!is_failure(kind)) {
		if (scope->number && count_call)
			count_call(scope->number);
		return 0;
	}
	PyObject *done = PyObject_CallFunctionObjArgs(self->home->failed, (PyObject *)scope, kind, NULL);
	if (!done) {
		if (!PyErr_ExceptionMatches(PyExc_Exception))
			return -1; // an interrupt that came meanwhile
		PyErr_Clear(); // the program's own exception goes on
	}
	Py_XDECREF(done);
	return 0;
}

static PyObject *label_exit(struct label *self, PyObject *const *args, Py_ssize_t count)
{
	struct scope *scope = in_force(self->home);
	if (!scope)
		return unless_failed(Py_None);
	int failed = put_in_force(self->home, scope->outer ? scope->outer : scope);
	if (!failed && self->judges)
		failed = judge(self, scope, count ? args[0] : Py_None);
	Py_DECREF(scope);
	if (failed)
		return NULL;
	Py_RETURN_NONE;
}

static PyMethodDef label_enter_method = {
	"__enter__", (PyCFunction)(void (*)(void))label_enter, METH_NOARGS, "Put the labels in force.",
};
static PyMethodDef label_exit_method = {
	"__exit__", (PyCFunction)(void (*)(void))label_exit, METH_FASTCALL, "Put those in force that were before.",
};

static PyObject *way_in(PyObject *way, PyObject *const *args, size_t count, PyObject *names)
{
	(void)args;
	if (way_count(count) || (names && PyObject_Size(names))) {
		PyErr_SetString(PyExc_TypeError, "__enter__() takes no arguments");
		return NULL;
	}
	return label_enter(way_object(way), NULL);
}

static PyObject *way_out(PyObject *way, PyObject *const *args, size_t count, PyObject *names)
{
	if (names && PyObject_Size(names)) {
		PyErr_SetString(PyExc_TypeError, "__exit__() takes no arguments by name");
		return NULL;
	}
	return label_exit(way_object(way), args, (Py_ssize_t)way_count(count));
}

static PyMemberDef label_members[] = {
	{"_given", T_OBJECT, offsetof(struct label, given), READONLY, "the labels as they were given"},
	{"_judges", T_BOOL, offsetof(struct label, judges), READONLY, "its entries end with an outcome"},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot label_slots[] = {
	{Py_tp_doc, "Labels that can be entered and left."},
	{Py_tp_new, label_new},
	{Py_tp_init, label_init},
	{Py_tp_dealloc, label_dealloc},
	{Py_tp_traverse, label_traverse},
	{Py_tp_clear, label_clear},
	{Py_tp_getattro, label_getattro},
	{Py_tp_members, label_members},
	{0, NULL},
};

// Where `with` binds methods it gets ways in their place.
static int add_method(const struct home *home, PyTypeObject *type, PyMethodDef *definition, size_t way_offset)
{
#ifdef Py_GIL_DISABLED
	const int binds = 0; // the counts of ways need the GIL
#else
	const int binds = home->hex_version < HEX_3_14;
#endif
	PyObject *method = binds ? way_entrance(home, type, definition, way_offset) : PyDescr_NewMethod(type, definition);
	int failed = !method || PyObject_SetAttrString((PyObject *)type, definition->ml_name, method);
	Py_XDECREF(method);
	return failed ? -1 : 0;
}

PyTypeObject *label_make_type(PyObject *module, const struct home *home)
{
	// Without a version tag CPython 3.9 looks up __enter__ and __exit__ anew each time; later ones do not look at the bit.
	static PyType_Spec spec = {
		"memleak._scopes.Label", sizeof(struct label), 0,
		Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_VERSION_TAG, label_slots,
	};
	*(void **)&get_variable = dlsym(RTLD_DEFAULT, "PyContextVar_Get");
	*(void **)&set_variable = dlsym(RTLD_DEFAULT, "PyContextVar_Set");
	if (!get_variable || !set_variable) {
		PyErr_SetString(PyExc_ImportError, "this interpreter exports no PyContextVar_Set: labels need CPython");
		return NULL;
	}
	PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
	if (type && (add_method(home, type, &label_enter_method, offsetof(struct label, enter)) ||
		     add_method(home, type, &label_exit_method, offsetof(struct label, leave)))) {
		Py_DECREF(type);
		return NULL;
	}
	return type;
}
