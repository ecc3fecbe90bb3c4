// settings.c -- prints its environment as it finds it, then allocates a little
//
// usage: settings [SECONDS TO WAIT BEFORE THE END]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;
static void *volatile kept;

__attribute__((noinline, noclone)) void keep(void) { kept = malloc(100); }

int main(int argc, char **argv)
{
	for (char **entry = environ; *entry; entry++)
		if (strncmp(*entry, "MEMLEAK", 7) && strncmp(*entry, "LD_PRELOAD", 10))
			puts(*entry);
	printf("MEMLEAK is %s\n", getenv("MEMLEAK") ? getenv("MEMLEAK") : "unset");
	for (int i = 0; i < 10000; i++)
		keep();
	fflush(stdout);
	if (argc > 1)
		sleep((unsigned)atoi(argv[1]));
	return 0;
}
