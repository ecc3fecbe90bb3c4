// Brings an interpreter in when it runs already, as applications with plug-ins do.
//
// Usage: late_python LIBPYTHON
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	void *python = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) : NULL;
	if (!python)
		return 2;
	void (*begin)(void) = (void (*)(void))dlsym(python, "Py_Initialize");
	int (*run)(const char *) = (int (*)(const char *))dlsym(python, "PyRun_SimpleString");
	int (*finish)(void) = (int (*)(void))dlsym(python, "Py_FinalizeEx");
	begin();
	int failed = run("def make():\n"
			 "    return [bytes(300) for _ in range(500)]\n"
			 "kept = make()\n"
			 "print(len(kept), flush=True)\n");
	return failed || finish() ? 1 : 3;
}
