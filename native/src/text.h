// text.h -- small numbers and names without libc's formatting
//
// Layer 2. Cold code that may run inside malloc uses these: no locale, no allocation, no errno.
#ifndef MEMLEAK_TEXT_H
#define MEMLEAK_TEXT_H

#include "base.h"

// A bounded string being built; once it would overflow, `full` stays set and nothing more is added.
struct text {
	char *at;
	size_t length, room; // room includes the terminator
	bool full;
};

static inline struct text text_in(char *buffer, size_t room)
{
	buffer[0] = 0;
	return (struct text){.at = buffer, .room = room};
}

static inline void text_char(struct text *t, char c)
{
	if (t->full || t->length + 1 >= t->room) {
		t->full = true;
		return;
	}
	t->at[t->length++] = c;
	t->at[t->length] = 0;
}

static inline void text_add(struct text *t, const char *s)
{
	while (*s)
		text_char(t, *s++);
}

static inline void text_decimal(struct text *t, uint64_t v)
{
	char digits[20];
	int n = 0;
	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		text_char(t, digits[--n]);
}

static inline void text_hex16(struct text *t, uint64_t v)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		text_char(t, "0123456789abcdef"[v >> shift & 15]);
}

// Decimal digits at *at, which moves behind them. False: no digit there, or beyond 64 bits.
static inline bool text_parse_decimal(const char **at, uint64_t *out)
{
	const char *s = *at;
	uint64_t v = 0;
	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return false;
	*at = s;
	*out = v;
	return true;
}

static inline bool text_parse_hex(const char **at, unsigned digits, uint64_t *out)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < digits; i++) {
		char c = (*at)[i];
		unsigned d = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;
		if (d > 15)
			return false;
		v = v << 4 | d;
	}
	*at += digits;
	*out = v;
	return true;
}

// The end of field 2 of a /proc/PID/stat line, which is the command in parentheses and may hold anything.
static inline const char *text_stat_command_end(const char *stat)
{
	const char *at = stat;
	for (const char *s = stat; *s; s++)
		if (*s == ')')
			at = s;
	return at;
}

// Field 3 of a /proc/PID/stat line: the state.
static inline char text_stat_letter(const char *stat)
{
	const char *at = text_stat_command_end(stat);
	return at[0] == ')' && at[1] == ' ' ? at[2] : 0;
}

// Field `wanted` (4 or more) of a /proc/PID/stat line; 0 if it is not there.
static inline uint64_t text_stat_field(const char *stat, int wanted)
{
	const char *at = text_stat_command_end(stat);
	uint64_t value = 0;
	for (int field = 2; field < wanted && *at; at++)
		if (*at == ' ')
			field++;
	text_parse_decimal(&at, &value);
	return value;
}

static inline bool text_equal(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static inline size_t text_length(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

#endif
