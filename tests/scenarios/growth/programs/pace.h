/* Work at a given rate, whatever the machine does: so a program knows its own growth. */

#include <stdlib.h>
#include <time.h>

static inline double seconds_since_start(void) {
    static double began;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double at = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    if (began == 0)
        began = at;
    return at - began;
}

/* Sleep a moment; return how many events should have happened since the start. What a slow machine missed is made up for. */
static inline long due(double per_second) {
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    return (long)(seconds_since_start() * per_second);
}

/* A number below *most*, from a fixed seed. */
static inline unsigned long below(unsigned long most) {
    static unsigned long state = 20240717;
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    return (state >> 33) % most;
}
