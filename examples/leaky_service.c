/* leaky_service.c -- a small service that forgets to free its sessions
 *
 * It answers N requests. Each request allocates a buffer that is freed and a session that goes into
 * a table; the table "expires" a session by taking it out, without freeing it: that is the leak.
 *
 *     gcc -g -O1 -o leaky_service leaky_service.c
 *     memleak run ./leaky_service
 *
 * The summary puts session_create() on top. `./leaky_service 0` serves until it is stopped: run
 * `memleak ps` and `memleak top PID` in another terminal meanwhile.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TABLE_SIZE 256
#define DEFAULT_REQUESTS 200000L

struct session {
	char user[64];
	char *cart;
};

static struct session *table[TABLE_SIZE];

__attribute__((noinline)) static struct session *session_create(long number)
{
	struct session *session = malloc(sizeof(*session));
	if (session == NULL)
		return NULL;
	snprintf(session->user, sizeof(session->user), "user-%ld", number);
	session->cart = NULL;
	return session;
}

__attribute__((noinline)) static void session_expire(long slot)
{
	table[slot] = NULL; /* here free(table[slot]) is missing */
}

__attribute__((noinline)) static size_t render_page(const struct session *session)
{
	size_t length = 4096;
	char *page = malloc(length);
	if (page == NULL)
		return 0;
	memset(page, ' ', length);
	memcpy(page, session->user, strlen(session->user));
	size_t sum = (size_t)page[0];
	free(page);
	return sum;
}

__attribute__((noinline)) static size_t handle_request(long number)
{
	long slot = number % TABLE_SIZE;
	if (table[slot] != NULL)
		session_expire(slot);
	table[slot] = session_create(number);
	return table[slot] != NULL ? render_page(table[slot]) : 0;
}

int main(int argc, char **argv)
{
	long requests = argc > 1 ? atol(argv[1]) : DEFAULT_REQUESTS;
	size_t sum = 0;
	for (long number = 0; requests == 0 || number < requests; number++) {
		sum += handle_request(number);
		if (requests == 0 && number % 100 == 0) {
			struct timespec pause = {0, 10 * 1000 * 1000};
			nanosleep(&pause, NULL);
		}
	}
	printf("served %ld requests (%zu)\n", requests, sum % 10);
	return 0;
}
