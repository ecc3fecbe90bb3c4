// harness.h -- what a C test needs: CHECK, and a count at the end
#ifndef HARNESS_H
#define HARNESS_H

#include <stdio.h>
#include <stdlib.h>

static unsigned checks_passed, checks_failed;

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (condition) {                                                                   \
			checks_passed++;                                                           \
		} else if (checks_failed++ < 20) {                                                 \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
		}                                                                                  \
	} while (0)

#define CHECK_EQUAL(left, right)                                                                   \
	do {                                                                                       \
		long long left_ = (long long)(left), right_ = (long long)(right);                  \
		if (left_ == right_) {                                                             \
			checks_passed++;                                                           \
		} else if (checks_failed++ < 20) {                                                 \
			fprintf(stderr, "%s:%d: %s = %lld, %s = %lld\n", __FILE__, __LINE__,       \
				#left, left_, #right, right_);                                     \
		}                                                                                  \
	} while (0)

static inline int harness_end(void)
{
	if (checks_failed)
		fprintf(stderr, "%u failed\n", checks_failed);
	printf("%u passed\n", checks_passed);
	return checks_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
