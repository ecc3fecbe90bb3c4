// labels.h -- sets of labels: their numbers, their texts, and which one a thread set from C
//
// Layer 6. labels_note(), labels_has(), labels_count_call() and labels_of_thread() are sampled, the rest is cold.
#ifndef MEMLEAK_LABELS_H
#define MEMLEAK_LABELS_H

#include "base.h"
#include "sampler.h"

// Number of the set with this text (`bytes` of it, no NUL among them), for the life of the process and of its forked
// children; MLF_LABEL_OTHER when there are MLF_LABEL_SETS others.
uint32_t labels_number(const char *text, size_t bytes);

// Sees to it that the open recording has the set's text.
void labels_note(uint32_t number);

// Number of the set with this one's labels, but for the line `from`, which becomes `to`; 0: it has no such line, or no text, or the
// text would be too long.
uint32_t labels_replaced(uint32_t number, const char *from, const char *to);

// One more entry ended under this set, in the open recording.
void labels_count_call(uint32_t number);

// Is this line, name=value, one of the set's? LABELS_NOT_KNOWN: it has no text (yet). Sampled.
enum labels_answer { LABELS_NOT_KNOWN, LABELS_NO, LABELS_YES };
enum labels_answer labels_has(uint32_t number, const char *line);

static inline uint32_t labels_of_thread(void) { return sampler_self.label; }

#endif
