/* A batch every five seconds; one block in 64 stays until the next one is over and holds what lies around it.

   scenario: arena retention
   verdict: churn or steady
   seconds: 40
   mode: both

   The process keeps 30 MB from the system for half a MB that is live: the ledger's matter. Nothing leaks. */

#include "pace.h"

enum { BLOCKS = 30000, PINS = BLOCKS / 64 + 1 };

static void *batch[BLOCKS], *pins[PINS];

static void run_batch(void) {
    for (int n = 0; n < BLOCKS; n++)
        *(char *)(batch[n] = malloc(1000)) = 1; /* blamed */
    for (int n = 0; n < BLOCKS; n++)
        if (n % 64 == 0) {
            free(pins[n / 64]);
            pins[n / 64] = batch[n];
        } else
            free(batch[n]);
}

int main(void) {
    for (long done = 0;;)
        for (long until = due(0.2) + 1; done < until; done++)
            run_batch();
}
