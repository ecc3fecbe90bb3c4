// parts.c -- a program whose parts allocate when they are told to
//
// usage: parts THREADS. Each line of standard input is done and answered by "done PID":
//   load PATH              a part (part.cc), number 0, 1, …
//   take PART WAY COUNT SIZE   on each thread; PART -1: the program's own malloc, on each thread
//   map COUNT SIZE         mappings, which are kept
//   fork                   from here on a child does what is asked, on one thread
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 8 };
typedef void take_function(int, long, long);

static struct worker {
	sem_t go, done;
} workers[MOST];
static int threads;
static take_function *asked;
static int asked_way;
static long asked_count, asked_size;
static void *volatile kept;

__attribute__((noinline)) void own_malloc(long size) { kept = malloc((size_t)size); }

static void take_own(int way, long count, long size)
{
	(void)way;
	for (long i = 0; i < count; i++)
		own_malloc(size);
}

static void *work(void *argument)
{
	struct worker *self = argument;
	for (;;) {
		while (sem_wait(&self->go))
			;
		asked(asked_way, asked_count, asked_size);
		sem_post(&self->done);
	}
	return NULL;
}

static void take(void)
{
	if (threads == 0)
		asked(asked_way, asked_count, asked_size);
	for (int i = 0; i < threads; i++)
		sem_post(&workers[i].go);
	for (int i = 0; i < threads; i++)
		while (sem_wait(&workers[i].done))
			;
}

int main(int argc, char **argv)
{
	static char line[4096];
	take_function *parts[MOST];
	int loaded = 0;
	threads = argc > 1 ? atoi(argv[1]) : 0;
	for (int i = 0; i < threads; i++) {
		pthread_t thread;
		sem_init(&workers[i].go, 0, 0);
		sem_init(&workers[i].done, 0, 0);
		if (pthread_create(&thread, NULL, work, &workers[i]))
			abort();
	}
	setvbuf(stdin, NULL, _IONBF, 0);
	setvbuf(stdout, NULL, _IONBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		int part;
		line[strcspn(line, "\n")] = 0;
		if (strncmp(line, "load ", 5) == 0) {
			void *handle = dlopen(line + 5, RTLD_NOW);
			if (!handle || loaded == MOST)
				return 3;
			parts[loaded++] = (take_function *)dlsym(handle, "part_take");
		} else if (sscanf(line, "take %d %d %ld %ld", &part, &asked_way, &asked_count, &asked_size) == 4) {
			asked = part < 0 ? take_own : parts[part];
			take();
		} else if (sscanf(line, "map %ld %ld", &asked_count, &asked_size) == 2) {
			for (long i = 0; i < asked_count; i++)
				kept = mmap(NULL, (size_t)asked_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		} else if (strcmp(line, "fork") == 0) {
			pid_t child = fork();
			if (child) {
				int status;
				waitpid(child, &status, 0);
				return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
			}
			threads = 0;
		} else {
			return 2;
		}
		printf("done %d\n", (int)getpid());
	}
	return 0;
}
