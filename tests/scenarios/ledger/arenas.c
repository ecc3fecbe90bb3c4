// arenas.c -- threads that each need much memory at times: what their arenas keep of it
//
// usage: arenas THREADS AT_ONCE ROUNDS; it prints "ready" when all have had their turns, and waits for the end of its input.
//
// A turn fills 8 MB with blocks of 100 to 1,000 bytes, and frees all but one in 64, which stay until the thread's next turn. AT_ONCE
// threads have a turn at one time, and hold what they have until all of these have it. So AT_ONCE x 8 MB are in use at most, whatever
// the arenas keep: with one arena a thread THREADS x 8 MB. Who has his turn with whom changes from round to round.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 14500, KEPT = 64, MOST = 64 };

static int threads, at_once, rounds;
static int place[MOST]; // whose turn comes when, in this round
static pthread_barrier_t step;

static void shuffle(void)
{
	static unsigned seed = 7;
	for (int i = threads - 1; i > 0; i--) {
		seed = seed * 1103515245u + 12345;
		int j = (int)((seed >> 16) % (unsigned)(i + 1)), held = place[i];
		place[i] = place[j];
		place[j] = held;
	}
}

static void *work(void *number)
{
	int me = (int)(size_t)number;
	unsigned seed = (unsigned)me;
	char **block = calloc(BLOCKS, sizeof(*block)), **kept = calloc(BLOCKS / KEPT + 1, sizeof(*kept));
	for (int round = 0; round < rounds; round++)
		for (int turn = 0; turn < threads / at_once; turn++) {
			int mine = place[me] / at_once == turn;
			for (int i = 0; mine && i < BLOCKS; i++) {
				seed = seed * 1103515245u + 12345;
				size_t bytes = 100 + (seed >> 16) % 900;
				block[i] = malloc(bytes);
				memset(block[i], 1, bytes);
			}
			pthread_barrier_wait(&step); // all have what they need
			for (int i = 0; mine && i < BLOCKS; i++) {
				if (i % KEPT)
					free(block[i]);
				else {
					free(kept[i / KEPT]);
					kept[i / KEPT] = block[i];
				}
			}
			pthread_barrier_wait(&step);
			pthread_barrier_wait(&step); // until then main() may say who is next
		}
	pthread_barrier_wait(&step);
	pthread_barrier_wait(&step);
	return NULL;
}

int main(int count, char **words)
{
	if (count != 4)
		return 2;
	threads = atoi(words[1]), at_once = atoi(words[2]), rounds = atoi(words[3]);
	for (int i = 0; i < threads; i++)
		place[i] = i;
	pthread_barrier_init(&step, NULL, (unsigned)threads + 1);
	for (int i = 0; i < threads; i++)
		pthread_create(&(pthread_t){0}, NULL, work, (void *)(size_t)i);
	for (int round = 0; round < rounds; round++)
		for (int turn = 1; turn <= threads / at_once; turn++) {
			pthread_barrier_wait(&step);
			pthread_barrier_wait(&step);
			if (turn == threads / at_once)
				shuffle();
			pthread_barrier_wait(&step);
		}
	pthread_barrier_wait(&step);
	puts("ready 0");
	fflush(stdout);
	char line[80];
	while (fgets(line, sizeof(line), stdin))
		;
	_Exit(0);
}
