// sites.c -- five places that leak what they are told to, each among three times as much that is freed again
#include <stdlib.h>

#define CHURN 3

#define SITE(name)                                                                                 \
	__attribute__((noinline, visibility("default"))) void *name(size_t bytes, long count)      \
	{                                                                                          \
		void **newest = NULL;                                                              \
		for (long i = 0; i < count; i++) {                                                 \
			void *volatile block = NULL;                                               \
			for (int again = 0; again <= CHURN; again++) {                             \
				free(block);                                                       \
				block = malloc(bytes);                                             \
				if (block == NULL)                                                 \
					abort();                                                   \
			}                                                                          \
			*(void **)block = newest;                                                  \
			newest = block;                                                            \
		}                                                                                  \
		return newest;                                                                     \
	}

SITE(native_site_0)
SITE(native_site_1)
SITE(native_site_2)
SITE(native_site_3)
SITE(native_site_4)
