// forked_loader.c -- forks while another thread holds the lock of the loader's list, or just has threads
//
// usage: forked_loader held|threads|more_threads PLUG
// The child asks for symbols and allocates; unless the lock is held it loads PLUG, calls its plug_make() a hundred times and
// unloads it, again and again with "more_threads", a second thread beside. A child that hangs is killed by its
// alarm. Prints "child STATUS".
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int held[2], let_go[2];
static char byte;

static int hold(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)info, (void)size, (void)unused;
	return write(held[1], "h", 1) == 1 && read(let_go[0], &byte, 1) == 1;
}

static void *hold_lock(void *unused) { return dl_iterate_phdr(hold, NULL), unused; }
static void *wait_only(void *unused) { return write(held[1], "h", 1) == 1 && read(let_go[0], &byte, 1) == 1 ? unused : NULL; }

static void use(const char *plug)
{
	void *handle = dlopen(plug, RTLD_NOW);
	void *(*make)(size_t) = handle ? (void *(*)(size_t))dlsym(handle, "plug_make") : NULL;
	if (!make)
		_exit(3);
	for (int i = 0; i < 100; i++)
		free(make(100));
	if (dlclose(handle) != 0)
		_exit(4);
}

static void child(const char *how, const char *plug, void *math)
{
	static void *volatile sink;
	pthread_t thread;
	alarm(30);
	for (int i = 0; i < 5000; i++) {
		free(sink = malloc(100));
		if (i % 100 == 0 && !dlsym(math, "cos"))
			_exit(2);
	}
	if (strcmp(how, "more_threads") == 0 && pthread_create(&thread, NULL, wait_only, NULL) != 0)
		_exit(5);
	if (strcmp(how, "held") != 0)
		use(plug);
	for (int i = 0; i < 100 && strcmp(how, "more_threads") == 0; i++) {
		usleep(20000);
		use(plug);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	void *math = dlopen("libm.so.6", RTLD_NOW);
	pthread_t thread;
	int status;
	if (argc < 3 || !math || pipe(held) != 0 || pipe(let_go) != 0)
		return 2;
	pthread_create(&thread, NULL, strcmp(argv[1], "held") == 0 ? hold_lock : wait_only, NULL);
	if (read(held[0], &byte, 1) != 1)
		return 2;
	pid_t pid = fork();
	if (pid == 0)
		child(argv[1], argv[2], math);
	waitpid(pid, &status, 0);
	if (write(let_go[1], "g", 1) != 1)
		return 2;
	pthread_join(thread, NULL);
	printf("child %d\n", status);
	return 0;
}
