// fixed.c -- a program at a fixed address, which is everybody's address of malloc, with CPython in it
//
// usage: fixed BEFORE AFTER
// Compiled with -no-pie: where it takes the address of a function of the C library, all objects take its own entry to that
// function for the function. Runs the Python code BEFORE, reaches malloc's family in all ways of forms.c, and runs AFTER;
// then prints its ledger.
#include <Python.h>

#include "forms.c"

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	Py_Initialize();
	if (PyRun_SimpleString(argv[1]))
		return 3;
	keep(200);
	warm();
	release();
	if (PyRun_SimpleString(argv[2]))
		return 4;
	printf("library fixed\n");
	ledger();
	return Py_FinalizeEx() ? 5 : 0;
}
