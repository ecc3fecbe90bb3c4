// stacks.c -- allocates on stacks of all kinds: 16 KiB threads, ucontexts, alternate stacks, after longjmp
//
// Prints the ledger of what it leaves live, "site NAME COUNT BYTES".
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

static void *volatile kept;
static ucontext_t main_context, contexts[4];
static jmp_buf jump;

__attribute__((noinline, noclone)) void keep_small(void) { kept = malloc(11); }
__attribute__((noinline, noclone)) void keep_context(void) { kept = malloc(22); }
__attribute__((noinline, noclone)) void keep_signal(void) { kept = malloc(33); }
__attribute__((noinline, noclone)) void keep_jump(void) { kept = malloc(44); }

static void *small(void *unused)
{
	for (int i = 0; i < 1000; i++) {
		free(malloc(100));
		keep_small();
	}
	return unused;
}

static void turn(int which)
{
	for (int i = 0; i < 1000; i++) {
		keep_context();
		swapcontext(&contexts[which], &contexts[(which + 1) % 4]);
	}
}

static void handler(int number)
{
	(void)number;
	keep_signal();
}

static int compare(const void *a, const void *b)
{
	static int calls;
	keep_jump();
	if (++calls % 7 == 0)
		longjmp(jump, 1); // through qsort's frames, and its buffer is lost with them
	return *(const int *)a - *(const int *)b;
}

int main(void)
{
	pthread_attr_t attributes;
	pthread_t threads[8];
	pthread_attr_init(&attributes);
	if (pthread_attr_setstacksize(&attributes, 16384))
		return 1;
	for (int i = 0; i < 8; i++)
		if (pthread_create(&threads[i], &attributes, small, NULL))
			return 2;
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	printf("site keep_small 8000 %d\n", 8000 * 11);

	for (int i = 0; i < 4; i++) {
		getcontext(&contexts[i]);
		contexts[i].uc_stack.ss_sp = malloc(32768);
		contexts[i].uc_stack.ss_size = 32768;
		contexts[i].uc_link = &main_context;
		makecontext(&contexts[i], (void (*)(void))turn, 1, i);
	}
	swapcontext(&main_context, &contexts[0]);
	printf("site keep_context 4000 %d\n", 4000 * 22);

	sigaltstack(&(stack_t){.ss_sp = malloc(65536), .ss_size = 65536}, NULL);
	sigaction(SIGUSR1, &(struct sigaction){.sa_handler = handler, .sa_flags = SA_ONSTACK}, NULL);
	for (int i = 0; i < 1000; i++)
		raise(SIGUSR1);
	printf("site keep_signal 1000 %d\n", 1000 * 33);

	static int numbers[1000];
	static volatile int rounds;
	for (int i = 0; i < 1000; i++)
		numbers[i] = i * 7919 % 1000;
	while (rounds < 100)
		if (setjmp(jump) == 0)
			qsort(numbers, 1000, sizeof(int), compare);
		else
			rounds++;
	printf("site keep_jump 700 %d\n", 700 * 44);
	return 0;
}
