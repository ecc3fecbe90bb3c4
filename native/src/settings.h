// settings.h -- what the environment asks for
//
// Layer 6. Cold. Bad settings give one line on standard error and the default; they never stop the program.
#ifndef MEMLEAK_SETTINGS_H
#define MEMLEAK_SETTINGS_H

#include "base.h"

struct recording_options;

// One line on standard error: "memleak: " and the three parts.
void settings_say(const char *a, const char *b, const char *c);

// While true, bad settings are made empty where they stand, so that a program tells of them once for all it executes.
void settings_environment_is_new(bool is_new);

// Where recordings go and how large they may be; run id and seed.
void settings_read_places(struct recording_options *out);

// What is sampled.
void settings_read_knobs(struct recording_options *out);

// MEMLEAK_BUDGET in millionths.
uint32_t settings_budget(void);

// MEMLEAK_FOCUS, not checked; "" for none. One that is longer than a focus may be is told of and none.
const char *settings_focus(void);

// One line that this variable is not used, and why.
void settings_ignore(const char *name, const char *why);

bool settings_is(const char *name, const char *value);
bool settings_has(const char *name); // set, and neither "" nor "0"
bool settings_flag(const char *name, bool otherwise); // 1 or 0
bool settings_native(bool python); // MEMLEAK_NATIVE; it is not both that are left out

#endif
