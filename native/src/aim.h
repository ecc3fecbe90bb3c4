// aim.h -- does an allocation belong to the part that is in focus?
//
// Layer 9. Sampled.
#ifndef MEMLEAK_AIM_H
#define MEMLEAK_AIM_H

#include "base.h"
#include "memleak_format.h"

enum aim_kind {
	AIM_NONE,
	AIM_MODULE, // by the code that asked for it: docs/reference/focus.md
	AIM_LABEL,  // by the labels that it is made under
	AIM_DOMAIN, // by its mod_name
};

struct aim {
	enum aim_kind kind;
	enum mlf_domain domain; // AIM_DOMAIN
	uint32_t number;        // what was found out about modules and labels holds for this aim alone; not 0
	const char *name;       // in `text`: the module, the line NAME=VALUE
	char text[MLF_FOCUS_BYTES];
};

// A focus in words, of any bytes; `number` is set apart. False: it is none, *out is not to be used.
bool aim_parse(const char *text, struct aim *out);

// Are all calls of malloc, of Python's small-object allocators, to be asked? Mappings are asked anyway.
bool aim_needs_native(const struct aim *aim);
bool aim_needs_python(const struct aim *aim);

// Does this call belong to it? `caller` as of REGISTERS_OF_CALLER() in the hook, `domain` as the hook knows it.
bool aim_matches(const struct aim *aim, enum mlf_domain domain, const struct registers *caller);

#endif
