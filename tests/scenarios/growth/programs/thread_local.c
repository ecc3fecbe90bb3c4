/* Each connection's thread has a buffer of its own, and nobody frees it when the thread ends.

   scenario: thread-local buffers
   verdict: leak
   rate: 40 * 25000
   mode: both

   A leak in bursts: two threads at a time. */

#include "pace.h"
#include <pthread.h>
#include <string.h>

static __thread char *scratch;

static char *scratch_of_thread(void) {
    if (scratch == NULL)
        scratch = malloc(25000); /* blamed */
    return scratch;
}

static void *serve(void *connection) {
    strcpy(scratch_of_thread(), connection);
    free(strdup(scratch_of_thread()));
    return NULL;
}

int main(void) {
    for (long done = 0;;)
        for (long until = due(20); done < until; done++) {
            pthread_t two[2];
            for (int n = 0; n < 2; n++)
                pthread_create(&two[n], NULL, serve, "SELECT 1");
            for (int n = 0; n < 2; n++)
                pthread_join(two[n], NULL);
        }
}
