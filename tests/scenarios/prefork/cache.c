// cache.c -- what the services leak into: pages of memory that nothing else allocates
#include <stdlib.h>
#include <string.h>

void *cache_page(size_t bytes)
{
	void *page = malloc(bytes);
	if (page)
		memset(page, 1, bytes);
	return page;
}

void drop_page(void *page)
{
	free(page);
}
