// steps.c -- native threads that allocate only when they are told to, so many blocks, each known by its size
//
// steps_begin(COUNT) makes so many threads, which sleep. steps_take(THREAD, COUNT, SIZE) lets one of them keep COUNT blocks of
// SIZE, SIZE + 1, … bytes for good, and returns when it has. steps_churn(1) lets one further thread allocate
// and free all the time, until steps_churn(0).
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

enum { MOST = 16 };

static struct worker {
	sem_t go, done;
	long count, size;
} workers[MOST];

static int churning;
static pthread_t churner;

__attribute__((noinline, noclone)) void keep_step(size_t size)
{
	if (!malloc(size))
		abort();
}

static void *work(void *argument)
{
	struct worker *self = argument;
	for (;;) {
		while (sem_wait(&self->go))
			;
		for (long i = 0; i < self->count; i++)
			keep_step((size_t)(self->size + i));
		sem_post(&self->done);
	}
	return NULL;
}

void steps_begin(int count)
{
	for (int i = 0; i < count && i < MOST; i++) {
		pthread_t thread;
		sem_init(&workers[i].go, 0, 0);
		sem_init(&workers[i].done, 0, 0);
		if (pthread_create(&thread, NULL, work, &workers[i]))
			abort();
	}
}

void steps_take(int worker, long count, long size)
{
	struct worker *one = &workers[worker];
	one->count = count;
	one->size = size;
	sem_post(&one->go);
	while (sem_wait(&one->done))
		;
}

static void *churn(void *unused)
{
	void *volatile block;
	while (__atomic_load_n(&churning, __ATOMIC_RELAXED)) {
		block = malloc(77);
		free(block);
	}
	return unused;
}

void steps_churn(int on)
{
	__atomic_store_n(&churning, on, __ATOMIC_RELAXED);
	if (on ? pthread_create(&churner, NULL, churn, NULL) : pthread_join(churner, NULL))
		abort();
}
