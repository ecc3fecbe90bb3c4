// harness.h -- what a C test needs: CHECK, how much to do, and a count at the end
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned checks_passed, checks_failed; // of all threads
static inline unsigned count_check(unsigned *number) { return __atomic_fetch_add(number, 1, __ATOMIC_RELAXED); }

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (condition) {                                                                   \
			count_check(&checks_passed);                                                   \
		} else if (count_check(&checks_failed) < 20) {                                                 \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
		}                                                                                  \
	} while (0)

#define CHECK_EQUAL(left, right)                                                                   \
	do {                                                                                       \
		long long left_ = (long long)(left), right_ = (long long)(right);                  \
		if (left_ == right_) {                                                             \
			count_check(&checks_passed);                                                   \
		} else if (count_check(&checks_failed) < 20) {                                                 \
			fprintf(stderr, "%s:%d: %s = %lld, %s = %lld\n", __FILE__, __LINE__,       \
				#left, left_, #right, right_);                                     \
		}                                                                                  \
	} while (0)

static inline bool argument_given(int argc, char **argv, const char *word)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], word) == 0)
			return true;
	return false;
}

// --short asks for the least that still tests something: for sanitizers, where an operation takes a hundred times as long.
static inline bool short_run(int argc, char **argv)
{
	return argument_given(argc, argv, "--short");
}

// MEMLEAK_TEST_LONG=1 or --long asks for the whole figure. --short wins: it is said to one program, the variable to all.
static inline bool long_run(int argc, char **argv)
{
	const char *asked = getenv("MEMLEAK_TEST_LONG");
	return !short_run(argc, argv) &&
	       (argument_given(argc, argv, "--long") || (asked && strcmp(asked, "1") == 0));
}

static inline int harness_end(void)
{
	if (checks_failed)
		fprintf(stderr, "%u failed\n", checks_failed);
	printf("%u passed\n", checks_passed);
	return checks_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
