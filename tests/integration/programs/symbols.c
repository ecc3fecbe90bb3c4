// symbols.c -- looks a symbol up again and again
//
// usage: symbols COUNT LIBRARY…  The libraries are loaded first, and used once.
#include <dlfcn.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	void *handle = dlopen("libm.so.6", RTLD_NOW);
	for (int i = 2; i < argc; i++)
		if (!dlopen(argv[i], RTLD_NOW))
			return 2;
	// Until everything that was loaded has been looked at often enough.
	for (int i = 0; i < 20; i++)
		if (!dlsym(handle, "cos"))
			return 3;
	for (long i = atol(argv[1]); i > 0; i--)
		dlsym(handle, "cos");
	return 0;
}
