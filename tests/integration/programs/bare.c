// bare.c -- closes every descriptor at start, then writes files of its own through the low numbers
//
// usage: bare DIRECTORY. Everything it has to say is in the files.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char path[4096], line[64];
	int fds[32];
	void *volatile p;
	if (argc < 2)
		return 1;
	for (int fd = 0; fd < 1024; fd++)
		close(fd);
	for (int i = 0; i < 32; i++) {
		snprintf(path, sizeof(path), "%s/file%d", argv[1], i);
		fds[i] = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	}
	for (int i = 0; i < 100000; i++) {
		p = malloc((size_t)(i % 1000));
		if (i % 3)
			free(p);
		if (i % 1000 == 0) {
			int n = snprintf(line, sizeof(line), "%d descriptor %d\n", i, fds[i / 1000 % 32]);
			if (write(fds[i / 1000 % 32], line, (size_t)n) != n)
				return 2;
		}
	}
	for (int fd = 32; fd < 2000; fd++)
		if (fcntl(fd, F_GETFD) != -1)
			return 3; // somebody else's descriptor
	return 0;
}
