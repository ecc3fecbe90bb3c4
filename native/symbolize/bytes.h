// bytes.h -- a cursor over bytes that may say anything
//
// Invariant: nothing outside [at, end) is read. What is not there reads as 0 and sets `bad`, which stays set: a caller looks once, at
//            its end, and whatever it made of the zeros is thrown away.
// Little-endian only: whoever opens a file refuses the others.
#ifndef MEMLEAK_SYMBOLIZE_BYTES_H
#define MEMLEAK_SYMBOLIZE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

// The number of the first that is not below a value, of many in ascending order.
static inline uint32_t first_not_below(const uint64_t *sorted, uint32_t count, uint64_t value)
{
	uint32_t low = 0, high = count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (sorted[middle] < value)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct bytes {
	const uint8_t *at, *end;
	bool bad;
};

// A cursor over nothing. Not over NULL: to move that, even by 0, is undefined.
static inline struct bytes bytes_none(void)
{
	static const uint8_t nothing[1];
	return (struct bytes){nothing, nothing, false};
}

static inline size_t bytes_left(const struct bytes *b) { return (size_t)(b->end - b->at); }

static inline void bytes_fail(struct bytes *b)
{
	b->bad = true;
	b->at = b->end;
}

static inline uint64_t bytes_fixed(struct bytes *b, unsigned size)
{
	uint64_t value = 0;
	if (unlikely(bytes_left(b) < size)) {
		bytes_fail(b);
		return 0;
	}
	switch (size) { // of a constant length it is one load
	case 8: memcpy(&value, b->at, 8); break;
	case 4: memcpy(&value, b->at, 4); break;
	default: memcpy(&value, b->at, size);
	}
	b->at += size;
	return value;
}

static inline uint8_t bytes_u8(struct bytes *b) { return (uint8_t)bytes_fixed(b, 1); }
static inline uint16_t bytes_u16(struct bytes *b) { return (uint16_t)bytes_fixed(b, 2); }
static inline uint32_t bytes_u32(struct bytes *b) { return (uint32_t)bytes_fixed(b, 4); }
static inline uint64_t bytes_u64(struct bytes *b) { return bytes_fixed(b, 8); }

static inline void bytes_skip(struct bytes *b, uint64_t count)
{
	if (unlikely(bytes_left(b) < count))
		bytes_fail(b);
	else
		b->at += count;
}

// Bits beyond the 64th are dropped.
static inline uint64_t bytes_uleb(struct bytes *b)
{
	uint64_t value = 0;
	for (unsigned shift = 0; b->at < b->end; shift += 7) {
		uint8_t byte = *b->at++;
		if (shift < 64)
			value |= (uint64_t)(byte & 127) << shift;
		if (likely(!(byte & 128)))
			return value;
	}
	b->bad = true;
	return 0;
}

static inline int64_t bytes_sleb(struct bytes *b)
{
	uint64_t value = 0;
	for (unsigned shift = 0; b->at < b->end;) {
		uint8_t byte = *b->at++;
		if (shift < 64)
			value |= (uint64_t)(byte & 127) << shift;
		shift += 7;
		if (byte & 128)
			continue;
		if (shift < 64 && byte & 64)
			value |= ~0ULL << shift;
		return (int64_t)value;
	}
	b->bad = true;
	return 0;
}

static inline void bytes_skip_leb(struct bytes *b)
{
	while (b->at < b->end)
		if (!(*b->at++ & 128))
			return;
	b->bad = true;
}

// A string that ends in NUL; NULL if it does not.
static inline const char *bytes_string(struct bytes *b)
{
	const uint8_t *end = bytes_left(b) ? memchr(b->at, 0, bytes_left(b)) : NULL;
	const char *text = (const char *)b->at;
	if (!end) {
		bytes_fail(b);
		return NULL;
	}
	b->at = end + 1;
	return text;
}

// The length that begins a unit, a table or a set. `dwarf64` says how wide offsets in it are. The cursor's end moves to its end.
static inline bool bytes_initial_length(struct bytes *b, bool *dwarf64)
{
	uint64_t length = bytes_u32(b);
	*dwarf64 = length == 0xFFFFFFFF;
	if (*dwarf64)
		length = bytes_u64(b);
	else if (length >= 0xFFFFFFF0)
		b->bad = true; // reserved
	if (b->bad || length > bytes_left(b)) {
		bytes_fail(b);
		return false;
	}
	b->end = b->at + length;
	return true;
}

#endif
