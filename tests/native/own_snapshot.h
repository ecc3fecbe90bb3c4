// own_snapshot.h -- run the test once more as on a C library without _dl_find_object
#ifndef OWN_SNAPSHOT_H
#define OWN_SNAPSHOT_H

#include "harness.h"

#include <sys/wait.h>
#include <unistd.h>

static inline void run_own_snapshot(const char *program)
{
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		execl("/proc/self/exe", program, "--own-snapshot", (char *)NULL);
		_exit(127);
	}
	int status = -1;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

#endif
