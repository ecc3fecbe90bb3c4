// home.h -- what one interpreter has of labels: the state of its module
#ifndef MEMLEAK_SCOPES_HOME_H
#define MEMLEAK_SCOPES_HOME_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stddef.h>
#include <stdint.h>

#ifndef METH_FASTCALL
#define METH_FASTCALL 0x0080 // of the stable interface since 3.10, and the same in 3.9
#endif

struct scope;

struct home {
	PyObject *variable, *find, *failed;
	PyTypeObject *scope_type, *way_type, *entrance_type;
	struct scope *spares; // copies that are over, for the next ones
	unsigned spare;       // how many those are
	uint32_t entries;     // that have begun
	long hex_version;
};

#endif
