// dwarf.h -- DWARF's variable-length numbers, encoded pointers and expressions
//
// Layer 2. What call frame information is written in. Sampled: reads only through a cursor with an
// end, which everything read may be hostile to.
#ifndef MEMLEAK_DWARF_H
#define MEMLEAK_DWARF_H

#include "base.h"

// DWARF pointer encodings
#define PE_ABSPTR 0x00
#define PE_ULEB 0x01
#define PE_UDATA2 0x02
#define PE_UDATA4 0x03
#define PE_UDATA8 0x04
#define PE_SLEB 0x09
#define PE_SDATA2 0x0a
#define PE_SDATA4 0x0b
#define PE_SDATA8 0x0c
#define PE_PCREL 0x10
#define PE_DATAREL 0x30
#define PE_OMIT 0xff

struct cursor {
	const uint8_t *at, *end;
	bool bad; // a read went past the end, or a value makes no sense; all later reads give 0
};

static inline uint64_t take(struct cursor *c, unsigned bytes)
{
	if (unlikely((size_t)(c->end - c->at) < bytes)) {
		c->bad = true;
		c->at = c->end;
		return 0;
	}
	uint64_t value = 0;
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)c->at[i] << (8 * i);
	c->at += bytes;
	return value;
}

static inline uint32_t dwarf_load_u32(const uint8_t *at)
{
	uint32_t value;
	__builtin_memcpy(&value, at, sizeof value);
	return value;
}

static inline uint8_t take_byte(struct cursor *c)
{
	if (unlikely(c->at == c->end)) {
		c->bad = true;
		return 0;
	}
	return *c->at++;
}

static inline uint64_t take_uleb(struct cursor *c)
{
	uint64_t value = 0;
	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t byte = take_byte(c);
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
	}
	c->bad = true;
	return 0;
}

static inline int64_t take_sleb(struct cursor *c)
{
	uint64_t value = 0;
	for (unsigned shift = 0; shift < 64;) {
		uint8_t byte = take_byte(c);
		value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
		if (!(byte & 0x80)) {
			if (byte & 0x40 && shift < 64)
				value |= ~0ULL << shift;
			return (int64_t)value;
		}
	}
	c->bad = true;
	return 0;
}

static inline void skip(struct cursor *c, uint64_t bytes)
{
	if (bytes > (size_t)(c->end - c->at)) {
		c->bad = true;
		bytes = (size_t)(c->end - c->at);
	}
	c->at += bytes;
}

// The value part of an encoded pointer, without what it is relative to.
static inline uint64_t take_encoded_value(struct cursor *c, uint8_t encoding)
{
	switch (encoding & 0x0f) {
	case PE_ABSPTR: case PE_UDATA8: case PE_SDATA8: return take(c, 8);
	case PE_ULEB: return take_uleb(c);
	case PE_SLEB: return (uint64_t)take_sleb(c);
	case PE_UDATA2: return take(c, 2);
	case PE_SDATA2: return (uint64_t)(int64_t)(int16_t)take(c, 2);
	case PE_UDATA4: return take(c, 4);
	case PE_SDATA4: return (uint64_t)(int64_t)(int32_t)take(c, 4);
	}
	c->bad = true;
	return 0;
}

static inline uintptr_t take_encoded(struct cursor *c, uint8_t encoding, uintptr_t data_base)
{
	uintptr_t place = (uintptr_t)c->at;
	uintptr_t value = take_encoded_value(c, encoding);
	switch (encoding & 0xf0) {
	case 0: return value;
	case PE_PCREL: return place + value;
	case PE_DATAREL: return data_base + value;
	}
	c->bad = true;
	return 0;
}

// ---- expressions ---------------------------------------------------------------------------------------

// What an expression may look at: registers whose bit is set in `known`, and memory in
// [stack_low, stack_high).
struct dwarf_context {
	const uintptr_t *registers;
	uint32_t known;
	uintptr_t stack_low, stack_high;
};

enum dwarf_status {
	DWARF_DONE,
	DWARF_BAD,     // it cannot be followed
	DWARF_OUTSIDE, // it asks for memory outside the stack range
};

// Run an expression, with *initial on its stack unless that is NULL.
enum dwarf_status dwarf_expression(const uint8_t *code, unsigned bytes, const struct dwarf_context *context,
		      const uintptr_t *initial, uintptr_t *out);

#endif
