// scopes.c -- the labels in force, and how a block enters and leaves them
//
// Context:   Python's, with the GIL; the two words of a scope that the core reads may be read at any moment.
// Invariant: the context variable's value is a scope, and a scope is whole before it is set. Leaving puts in force what was before
//            the one in force, whoever set it. A scope that is kept lies within kept ones; what lies within an entry, or is
//            one, is a copy of a kept one. No chain of scopes is longer than DEEPEST: see flat().
// Why:       entering and leaving a label is what a program pays for at each statement and request: in C it is little more
//            than setting the variable. docs/adr/0020-labels.md, docs/adr/0023-outcome.md
// Proof:     tests/integration/test_labels.py, test_label_scopes.py, test_outcome.py
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

#ifndef METH_FASTCALL
#define METH_FASTCALL 0x0080 // of the stable interface since 3.10, and the same in 3.9
#endif

// Of CPython 3.12 and 3.13: earlier headers do not know them.
#define SLOT_MULTIPLE_INTERPRETERS 3
#define SLOT_GIL 4
#define OWN_GIL_SUPPORTED ((void *)2)
#define GIL_NOT_USED ((void *)1)

// ---- what is shared -----------------------------------------------------------------------------------

// Not of the limited interface, but exported by each CPython that has context variables.
static int (*get_variable)(PyObject *variable, PyObject *fallback, PyObject **value);
static PyObject *(*set_variable)(PyObject *variable, PyObject *value);

// The core, once it follows: of the process, as the core is.
static const uint32_t *noted;          // how many samples it has noted under entries
static void (*count_call)(unsigned number); // an entry under this set was left

struct home { // of one interpreter
	PyObject *variable, *find, *failed;
	PyTypeObject *scope_type;
};

// ---- scopes -----------------------------------------------------------------------------------------------

#define DEEPEST 256U // one in another
#define KEPT_DEEPEST 16U

struct scope {
	PyObject_HEAD
	struct scope *outer; // the outermost: itself
	PyObject *labels, *inner; // as text; NULL, or what was given -> the scope within that is kept
	PyObject *owner; // the label whose entry this is; NULL: no entry
	// Read by the core as its struct pylabel_value. The first two in one go: number of the set, 0: the kept one's; which entry of a
	// label with `outcome` this is, or is within, 0: none.
	uint32_t number, entry;
	struct scope *kept; // what this is a copy of, for as long as it lives; NULL: none
	uint32_t began;     // *noted at its entry
	uint32_t depth;     // of the chain `outer`
	char judged;
};
_Static_assert(offsetof(struct scope, number) % 8 == 0, "the core reads one word");

static void destroy(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
	Py_DECREF(type);
}

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

static void scope_dealloc(PyObject *self)
{
	PyObject_GC_UnTrack(self);
	scope_clear((struct scope *)self);
	destroy(self);
}

static struct scope *new_scope(PyTypeObject *type, struct scope *outer, PyObject *labels)
{
	struct scope *self = (struct scope *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0); // zeroed
	if (!self)
		return NULL;
	self->outer = outer ? outer : self;
	self->depth = outer ? outer->depth + 1 : 0;
	Py_INCREF(self->outer);
	Py_XINCREF(labels);
	self->labels = labels;
	return self;
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
static PyType_Spec scope_spec = {"memleak._scopes.Scope", sizeof(struct scope), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, scope_slots};

// ---- labels -----------------------------------------------------------------------------------------------

struct label {
	PyObject_HEAD
	PyObject *module; // holds `home`
	struct home *home;
	PyObject *given;    // a dict
	struct scope *last; // that it entered, of those that are kept; NULL: none
	char judges;        // its entries end with an outcome
	char hides;         // `outcome` is given as a text
};

static void label_dealloc(PyObject *self);

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
	struct label *self = (struct label *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
	if (!self)
		return NULL;
	Py_INCREF(module);
	self->module = module;
	self->home = PyModule_GetState(module);
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

static void label_dealloc(PyObject *self)
{
	PyObject_GC_UnTrack(self);
	label_clear((struct label *)self);
	Py_CLEAR(((struct label *)self)->module);
	destroy(self);
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

static uint32_t next_entry(void)
{
	static uint32_t entries;
	uint32_t entry;
	while (!(entry = __atomic_add_fetch(&entries, 1, __ATOMIC_RELAXED)))
		; // 0 is none
	return entry;
}

// A copy of one that is kept, for what is within an entry or is one. Steals `kept`.
static struct scope *copy(const struct label *self, struct scope *kept, struct scope *outer)
{
	struct scope *made = new_scope(self->home->scope_type, outer, kept->labels);
	if (!made) {
		Py_DECREF(kept);
		return NULL;
	}
	made->kept = kept;
	made->number = kept->number;
	made->entry = self->hides ? 0 : outer->entry;
	if (self->judges) {
		made->entry = next_entry();
		made->began = noted ? __atomic_load_n(noted, __ATOMIC_RELAXED) : 0;
		Py_INCREF(self);
		made->owner = (PyObject *)self;
	}
	return made;
}

// The same labels, within nothing. What is started under labels begins with them, and never leaves them: a callback that makes its
// successor, a thread that starts the next one, go deeper without end. Steals `scope`.
static struct scope *flat(const struct label *self, struct scope *scope)
{
	struct scope *outermost = scope->outer, *made = NULL;
	while (outermost && outermost->outer && outermost->outer != outermost)
		outermost = outermost->outer;
	if (outermost && (made = new_scope(self->home->scope_type, outermost, scope->labels))) {
		made->number = scope->number;
		made->entry = scope->entry;
		if (scope->kept) {
			Py_INCREF(scope->kept);
			made->kept = flat(self, scope->kept);
		}
		if (scope->kept && !made->kept) {
			Py_DECREF(made);
			made = NULL;
		}
	}
	Py_DECREF(scope);
	return made;
}

static PyObject *label_enter(struct label *self, PyObject *unused)
{
	(void)unused;
	struct scope *outer = in_force(self->home);
	if (outer && outer->depth >= DEEPEST)
		outer = flat(self, outer);
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
	while (scope && (scope->owner != (PyObject *)self || scope->judged))
		scope = scope->outer == scope ? NULL : scope->outer;
	if (!scope)
		return 0;
	scope->judged = 1;
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

static PyMethodDef label_methods[] = {
	{"__enter__", (PyCFunction)(void (*)(void))label_enter, METH_NOARGS, "Put the labels in force."},
	{"__exit__", (PyCFunction)(void (*)(void))label_exit, METH_FASTCALL, "Put those in force that were before."},
	{NULL, NULL, 0, NULL},
};

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
	{Py_tp_methods, label_methods},
	{Py_tp_members, label_members},
	{0, NULL},
};
static PyType_Spec label_spec = {"memleak._scopes.Label", sizeof(struct label), 0,
				 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, label_slots};

// ---- the module -------------------------------------------------------------------------------------------

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
	*home = (struct home){variable, find, failed, home->scope_type};
	Py_RETURN_NONE;
}

static PyObject *join(PyObject *module, PyObject *args)
{
	(void)module;
	unsigned long long counter, function;
	if (!PyArg_ParseTuple(args, "KK", &counter, &function))
		return NULL;
	noted = (const uint32_t *)(uintptr_t)counter;
	count_call = (void (*)(unsigned))(uintptr_t)function;
	Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
	{"set_up", set_up, METH_VARARGS, "Tell the context variable, what finds a kept scope, and what is done with a failed entry."},
	{"join", join, METH_VARARGS, "Tell two addresses in the core: how many samples it has noted, and what counts an entry that was left."},
	{NULL, NULL, 0, NULL},
};

static int begin(PyObject *module)
{
	struct home *home = PyModule_GetState(module);
	*(void **)&get_variable = dlsym(RTLD_DEFAULT, "PyContextVar_Get");
	*(void **)&set_variable = dlsym(RTLD_DEFAULT, "PyContextVar_Set");
	if (!get_variable || !set_variable) {
		PyErr_SetString(PyExc_ImportError, "this interpreter exports no PyContextVar_Set: labels need CPython");
		return -1;
	}
	home->scope_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &scope_spec, NULL);
	if (!home->scope_type)
		return -1;
	Py_INCREF(home->scope_type); // PyModule_AddObject() takes one
	if (PyModule_AddObject(module, "Scope", (PyObject *)home->scope_type) < 0) {
		Py_DECREF(home->scope_type);
		return -1;
	}
	PyObject *label = PyType_FromModuleAndSpec(module, &label_spec, NULL);
	if (!label || PyModule_AddObject(module, "Label", label) < 0) {
		Py_XDECREF(label);
		return -1;
	}
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
	PyObject *version = PySys_GetObject("hexversion");
	long hex = version ? PyLong_AsLong(version) : 0;
	if (hex >= 0x030C0000)
		slots[1] = (PyModuleDef_Slot){SLOT_MULTIPLE_INTERPRETERS, OWN_GIL_SUPPORTED};
#ifdef Py_GIL_DISABLED
	slots[2] = (PyModuleDef_Slot){SLOT_GIL, GIL_NOT_USED};
#endif
	return PyModuleDef_Init(&definition);
}
