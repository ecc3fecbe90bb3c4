// signals.c -- timer signals every 200 us whose handler allocates and frees on an alternate stack
//
// usage: signals ROUNDS. To be run with bump_malloc.so, where that is allowed. Prints how it went.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

static volatile long handled;
static volatile int on_alternate = 1;
static char *alternate;

static void handler(int number)
{
	char here;
	(void)number;
	if (&here < alternate || &here >= alternate + 65536)
		on_alternate = 0;
	char *p = malloc(40);
	p[0] = 1;
	p = realloc(p, 80);
	free(p);
	handled++;
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 100000;
	alternate = malloc(65536);
	sigaltstack(&(stack_t){.ss_sp = alternate, .ss_size = 65536}, NULL);
	sigaction(SIGALRM, &(struct sigaction){.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART}, NULL);
	setitimer(ITIMER_REAL, &(struct itimerval){{0, 200}, {0, 200}}, NULL);
	unsigned long sum = 0;
	for (long i = 0; i < rounds || handled < 100; i++) {
		char *p = malloc(64);
		memset(p, (int)i, 64);
		sum += (unsigned char)p[i & 63] == (unsigned char)i;
		if (i % 3)
			free(p);
		if (i % 1000 == 999 && i >= rounds)
			raise(SIGALRM);
	}
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
	printf("on the alternate stack: %d, enough signals: %d, intact: %d\n", on_alternate, handled >= 100, sum >= (unsigned long)rounds);
	return 0;
}
