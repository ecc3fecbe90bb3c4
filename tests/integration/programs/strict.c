// strict.c -- after a warm-up allows itself nothing but read, write and exit, and goes on allocating
//
// Strict seccomp: any other system call kills it.
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	static void *held[1000];
	free(malloc(1 << 20)); // the heap has room from here on
	for (int i = 0; i < 1000; i++)
		held[i] = malloc(100);
	for (int i = 0; i < 1000; i++)
		free(held[i]);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
		return 2;
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < 1000; i++)
			held[i] = i % 2 ? malloc(60) : calloc(6, 10);
		for (int i = 0; i < 1000; i++)
			held[i] = realloc(held[i], 90);
		for (int i = 0; i < 1000; i++)
			free(held[i]);
	}
	if (write(1, "done\n", 5) != 5)
		syscall(SYS_exit, 3);
	syscall(SYS_exit, 0);
}
