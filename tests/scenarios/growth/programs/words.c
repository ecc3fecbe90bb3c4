/* The distinct words of a text: their number grows as the logarithm of its length.

   scenario: log growth
   verdict: growing (saturating)
   level: none
   seconds: 40

   scenario: log growth, 20 minutes
   verdict: growing (saturating)
   mode: normal

   It never levels, and is no leak either: it grows by a fifth of what it did, a minute later. The 300 samples of the
   default knobs do not tell a logarithm from what levels: no level is stated for them. */

#include "pace.h"
#include <math.h>

static void word_new(void) { *(char *)malloc(120) = 1; } /* blamed */

int main(void) {
    for (long words = 0;;) {
        due(0);
        for (long distinct = (long)(6000 * log1p(seconds_since_start() / 2)); words < distinct; words++)
            word_new();
    }
}
