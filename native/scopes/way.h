// way.h -- how `with` reaches __enter__ and __exit__ without making a bound method
#ifndef MEMLEAK_SCOPES_WAY_H
#define MEMLEAK_SCOPES_WAY_H

#include "home.h"

typedef PyObject *(*way_function)(PyObject *way, PyObject *const *args, size_t count, PyObject *names); // as vectorcall has it; names: NULL, or something with a length

// Stands within the object whose method it is, and holds on to it while anybody holds on to the way.
struct way {
	PyObject_HEAD
	way_function call;
	size_t offset; // within the object
};

// Makes the types. -1: an error is set.
int way_make_types(PyObject *module, struct home *home);

// With the object, whose traverse visits the type of its ways.
void way_begin(struct way *self, const struct home *home, void *object, way_function call);
void way_end(struct way *self);

static inline void *way_object(const void *way) { return (char *)(uintptr_t)way - ((const struct way *)way)->offset; }
static inline size_t way_count(size_t count) { return count & ~((size_t)1 << (8 * sizeof(size_t) - 1)); } // of arguments

// What stands in the type `of` in place of the method `definition`, whose way is at `offset` of its objects. NULL: an error is set.
PyObject *way_entrance(const struct home *home, PyTypeObject *of, PyMethodDef *definition, size_t offset);

#endif
