// startup.h -- the preload door opens: environment, modules, recording
//
// Layer 11. Cold.
#ifndef MEMLEAK_STARTUP_H
#define MEMLEAK_STARTUP_H

// Idempotent: what every way of starting needs before tracer_start().
void startup_modules(void);

#endif
