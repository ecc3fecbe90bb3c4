// threads.c -- threads without end: small stacks, destructors that allocate, blocks that another thread gives back
//
// usage: threads ROUNDS. In each round eight threads live and die. Prints what must have come of it.
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { AT_ONCE = 8, BLOCKS = 40 };
static pthread_key_t key;
static void *handed_over[AT_ONCE][BLOCKS];
static unsigned long destroyed, kept_alive;

// Twice: what the first leaves behind is found by the second.
static void destroy(void *value)
{
	char *text = value;
	__atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
	if (text[0] == 'a') {
		char *again = strdup("b");
		pthread_setspecific(key, again);
	}
	free(text);
}

static void *live(void *number)
{
	void **blocks = handed_over[(size_t)number];
	pthread_setspecific(key, strdup("a"));
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc((size_t)(i * 7 + 1));
		free(realloc(calloc(3, 5), 200));
	}
	return strdup("done");
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 100;
	pthread_attr_t small;
	pthread_attr_init(&small);
	if (pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN) != 0)
		return 2;
	pthread_key_create(&key, destroy);
	for (int round = 0; round < rounds; round++) {
		pthread_t thread[AT_ONCE];
		for (size_t i = 0; i < AT_ONCE; i++)
			if (pthread_create(&thread[i], i % 2 ? &small : NULL, live, (void *)i) != 0)
				return 3;
		for (size_t i = 0; i < AT_ONCE; i++) {
			void *result;
			pthread_join(thread[i], &result);
			kept_alive += strcmp(result, "done") == 0;
			free(result);
		}
		for (size_t i = 0; i < AT_ONCE; i++)
			for (int j = 0; j < BLOCKS; j++)
				free(handed_over[i][j]);
	}
	printf("%lu threads, %lu destructors\n", kept_alive, destroyed);
	return kept_alive == (unsigned long)rounds * AT_ONCE ? 0 : 1;
}
