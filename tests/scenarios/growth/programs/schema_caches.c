/* The greatest stack is not the one that leaks: caches of 3 x 3 MiB are made at the start, sessions are lost afterwards.

   scenario: start-up caches before a leak
   verdict: leak
   rate: 500 * 208
   seconds: 28
   mode: both

   The page on Memleak sorts by alloc_bytes and suspects ObSchemaMgrCache::init; it is at the top here, too, for a minute
   and a half: 9 MiB against 104 KB/s. */

#include "pace.h"

struct schema_cache {
    char slots[3145728];
};

struct session {
    char state[208];
};

static struct schema_cache *cache_init(void) { return malloc(sizeof(struct schema_cache)); }

static void session_begin(void) {
    struct session *session = malloc(sizeof *session); /* blamed */
    session->state[0] = 1;
}

int main(void) {
    struct schema_cache *caches[3];
    for (int n = 0; n < 3; n++)
        (caches[n] = cache_init())->slots[0] = 1;
    for (long done = 0;;)
        for (long until = due(500); done < until; done++) {
            session_begin();
            free(malloc(300 + done % 100)); /* a request */
        }
}
