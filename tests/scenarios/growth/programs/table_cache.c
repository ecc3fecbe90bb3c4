/* One prefetch cache per open table: not a leak, but a plateau far above the limit.

   scenario: table cache, filling, limit 16 GiB
   arguments: 102400 1000
   verdict: growing (saturating)
   level: 102400 * 548584
   limit: 17179869184
   above: 102400 * 548584 - 17179869184
   seconds: 30

   scenario: table cache, full
   arguments: 400 1000
   verdict: steady or step
   seconds: 28
   mode: both

   scenario: table cache, filling for an hour, limit 16 GiB
   arguments: 102400 20
   verdict: growing (saturating)
   level: 102400 * 548584
   limit: 17179869184
   above: 102400 * 548584 - 17179869184
   mode: normal

   MySQL 5.7 at Tencent's: 548,584 bytes for each of 102,400 open tables are 52 GiB, and the ledger of the server's own layer
   knew of 4. Sessions open tables at random; a table that is in the cache is not opened again. Nothing but the first page
   of a prefetch cache is touched, so it is address space that the limit (RLIMIT_AS) is of. */

#include "pace.h"
#include <pthread.h>

enum { PREFETCH_BYTES = 548584 };

static void **prefetch_cache;
static unsigned long tables;

static void table_open(unsigned long table) {
    if (prefetch_cache[table] == NULL && (prefetch_cache[table] = malloc(PREFETCH_BYTES)) != NULL) /* blamed */
        *(char *)prefetch_cache[table] = 1;
}

static void *session(void *opens_per_second) {
    for (long done = 0;;)
        for (long until = due(*(double *)opens_per_second); done < until; done++)
            table_open(below(tables));
    return NULL;
}

int main(int argc, char **argv) {
    tables = argc > 1 ? strtoul(argv[1], NULL, 10) : 102400;
    double per_second = argc > 2 ? atof(argv[2]) : 1000;
    prefetch_cache = calloc(tables, sizeof *prefetch_cache);
    pthread_t thread;
    pthread_create(&thread, NULL, session, &per_second);
    pthread_join(thread, NULL);
}
