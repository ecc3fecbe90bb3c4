// A driver with the classic mistake: its objects refer to each other, and the collector is not told.
//
// A Session and its Channel own each other. Both types take part in garbage collection, but their
// tp_traverse visits nothing, so each looks as if somebody outside held it: dropping a Session frees
// neither of the two, nor what they got from malloc.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

struct end {
	PyObject_HEAD
	PyObject *peer;
	void *buffer;
	size_t bytes;
};

static size_t held_blocks, held_bytes; // of malloc, counted where it is called

static int end_traverse(PyObject *self, visitproc visit, void *context)
{
	(void)self, (void)visit, (void)context; // the mistake: Py_VISIT(end->peer)
	return 0;
}

static void end_dealloc(PyObject *self)
{
	struct end *end = (struct end *)self;
	PyObject_GC_UnTrack(self);
	Py_CLEAR(end->peer);
	free(end->buffer);
	held_blocks--;
	held_bytes -= end->bytes;
	Py_TYPE(self)->tp_free(self);
}

static PyTypeObject channel_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ring.Channel",
    .tp_basicsize = sizeof(struct end),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = end_dealloc,
    .tp_traverse = end_traverse,
    .tp_free = PyObject_GC_Del,
};

static int fill(struct end *end, size_t bytes)
{
	end->buffer = malloc(bytes);
	if (!end->buffer) {
		PyErr_NoMemory();
		return -1;
	}
	end->bytes = bytes;
	held_blocks++;
	held_bytes += bytes;
	return 0;
}

static PyObject *session_new(PyTypeObject *type, PyObject *words, PyObject *options)
{
	(void)options;
	unsigned int bytes;
	if (!PyArg_ParseTuple(words, "I", &bytes))
		return NULL;
	struct end *session = (struct end *)type->tp_alloc(type, 0);
	struct end *channel = session ? (struct end *)channel_type.tp_alloc(&channel_type, 0) : NULL;
	if (!channel || fill(session, bytes) || fill(channel, bytes / 2))
		return NULL;
	session->peer = (PyObject *)channel;
	channel->peer = (PyObject *)session;
	Py_INCREF(session);
	return (PyObject *)session;
}

static PyObject *session_count(PyObject *self, PyObject *nothing)
{
	(void)self, (void)nothing;
	return PyLong_FromSize_t(held_blocks);
}

static PyMethodDef session_methods[] = {
    {"count", session_count, METH_NOARGS, "buffers in use"},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject session_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ring.Session",
    .tp_basicsize = sizeof(struct end),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = end_dealloc,
    .tp_traverse = end_traverse,
    .tp_free = PyObject_GC_Del,
    .tp_methods = session_methods,
    .tp_new = session_new,
};

static PyObject *held(PyObject *module, PyObject *nothing)
{
	(void)module, (void)nothing;
	return Py_BuildValue("nn", (Py_ssize_t)held_blocks, (Py_ssize_t)held_bytes);
}

static PyMethodDef functions[] = {
    {"held", held, METH_NOARGS, "blocks and bytes that were asked of malloc and not given back"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "ring", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit_ring(void)
{
	if (PyType_Ready(&channel_type) < 0 || PyType_Ready(&session_type) < 0)
		return NULL;
	PyObject *made = PyModule_Create(&module);
	Py_INCREF(&session_type);
	if (!made || PyModule_AddObject(made, "Session", (PyObject *)&session_type) < 0)
		return NULL;
	return made;
}
