// dwarf.c -- expressions: small stack programs that compute an address
//
// Context:   sampled. No allocation, no lock, no libc call, no floating point.
// Invariant: loads stay in the stack range of the context; steps and depth are bounded; no division
//            traps.
// Why:       glibc describes its signal frame, gcc a realigned stack and the linker its PLT in
//            expressions; hand-written assembly uses them freely.
// Proof:     tests/native/test_unwind.c
#include "dwarf.h"

#define EXPRESSION_STACK 16U
#define EXPRESSION_STEPS_MAX 128U

struct evaluation {
	uint32_t depth;
	bool failed, outside;
	uint64_t stack[EXPRESSION_STACK];
};

static void push(struct evaluation *e, uint64_t value)
{
	if (e->depth == EXPRESSION_STACK)
		e->failed = true;
	else
		e->stack[e->depth++] = value;
}

static uint64_t pop(struct evaluation *e)
{
	if (e->depth == 0) {
		e->failed = true;
		return 0;
	}
	return e->stack[--e->depth];
}

static uint64_t peek(struct evaluation *e, uint32_t index)
{
	if (index >= e->depth) {
		e->failed = true;
		return 0;
	}
	return e->stack[e->depth - 1 - index];
}

// Reads other functions' stack: not for AddressSanitizer to judge.
__attribute__((no_sanitize("address"))) static uint64_t load_stack(struct evaluation *e,
								    const struct dwarf_context *context,
								    uint64_t address, unsigned bytes)
{
	if (bytes == 0 || bytes > 8 || address < context->stack_low || address >= context->stack_high ||
	    context->stack_high - address < bytes) {
		e->failed = e->outside = true;
		return 0;
	}
	uint64_t value = 0;
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)((const uint8_t *)address)[i] << (8 * i);
	return value;
}

static void push_register(struct evaluation *e, const struct dwarf_context *context, uint64_t reg, int64_t offset)
{
	if (reg >= 32 || !(context->known >> reg & 1))
		e->failed = true;
	else
		push(e, context->registers[reg] + (uint64_t)offset);
}

static void binary(struct evaluation *e, uint8_t op)
{
	uint64_t b = pop(e), a = pop(e), r = 0;
	switch (op) {
	case 0x1a: r = a & b; break;
	case 0x1b: // div
		if (b == 0 || (b == UINT64_MAX && a == 1ULL << 63))
			e->failed = true;
		else
			r = (uint64_t)((int64_t)a / (int64_t)b);
		break;
	case 0x1c: r = a - b; break;
	case 0x1d: // mod
		if (b == 0)
			e->failed = true;
		else
			r = a % b;
		break;
	case 0x1e: r = a * b; break;
	case 0x21: r = a | b; break;
	case 0x22: r = a + b; break;
	case 0x24: r = b < 64 ? a << b : 0; break;
	case 0x25: r = b < 64 ? a >> b : 0; break;
	case 0x26: r = (uint64_t)((int64_t)a >> (b < 64 ? b : 63)); break;
	case 0x27: r = a ^ b; break;
	case 0x29: r = a == b; break;
	case 0x2a: r = (int64_t)a >= (int64_t)b; break;
	case 0x2b: r = (int64_t)a > (int64_t)b; break;
	case 0x2c: r = (int64_t)a <= (int64_t)b; break;
	case 0x2d: r = (int64_t)a < (int64_t)b; break;
	case 0x2e: r = a != b; break;
	}
	push(e, r);
}

enum dwarf_status dwarf_expression(const uint8_t *code, unsigned bytes, const struct dwarf_context *context,
		      const uintptr_t *initial, uintptr_t *out)
{
	struct evaluation e;
	e.depth = 0;
	e.failed = e.outside = false;
	struct cursor c = {.at = code, .end = code + bytes};
	if (initial)
		push(&e, *initial);

	for (uint32_t step = 0; c.at < c.end && !c.bad && !e.failed; step++) {
		if (step == EXPRESSION_STEPS_MAX)
			return DWARF_BAD;
		uint8_t op = take_byte(&c);
		uint64_t a, b, d;
		if (op >= 0x30 && op <= 0x4f) { // lit0..lit31
			push(&e, op - 0x30u);
			continue;
		}
		if (op >= 0x70 && op <= 0x8f) { // breg0..breg31
			push_register(&e, context, op - 0x70u, take_sleb(&c));
			continue;
		}
		switch (op) {
		case 0x03: case 0x0e: case 0x0f: push(&e, take(&c, 8)); break; // addr const8u const8s
		case 0x06: push(&e, load_stack(&e, context, pop(&e), 8)); break; // deref
		case 0x08: push(&e, take(&c, 1)); break;
		case 0x09: push(&e, (uint64_t)(int64_t)(int8_t)take(&c, 1)); break;
		case 0x0a: push(&e, take(&c, 2)); break;
		case 0x0b: push(&e, (uint64_t)(int64_t)(int16_t)take(&c, 2)); break;
		case 0x0c: push(&e, take(&c, 4)); break;
		case 0x0d: push(&e, (uint64_t)(int64_t)(int32_t)take(&c, 4)); break;
		case 0x10: push(&e, take_uleb(&c)); break;
		case 0x11: push(&e, (uint64_t)take_sleb(&c)); break;
		case 0x12: push(&e, peek(&e, 0)); break; // dup
		case 0x13: pop(&e); break;               // drop
		case 0x14: push(&e, peek(&e, 1)); break; // over
		case 0x15: push(&e, peek(&e, take_byte(&c))); break; // pick
		case 0x16: a = pop(&e), b = pop(&e), push(&e, a), push(&e, b); break; // swap
		case 0x17: a = pop(&e), b = pop(&e), d = pop(&e), push(&e, a), push(&e, d), push(&e, b); break; // rot
		case 0x19: a = pop(&e), push(&e, (int64_t)a < 0 ? 0 - a : a); break; // abs
		case 0x1f: push(&e, 0 - pop(&e)); break; // neg
		case 0x20: push(&e, ~pop(&e)); break;    // not
		case 0x23: push(&e, pop(&e) + take_uleb(&c)); break; // plus_uconst
		case 0x28: // bra
		case 0x2f: // skip
			a = (uint64_t)(int64_t)(int16_t)take(&c, 2);
			if (op == 0x28 && pop(&e) == 0)
				break;
			if ((uint64_t)(c.at - code) + a > bytes)
				return DWARF_BAD;
			c.at += (int64_t)a;
			break;
		case 0x92: // bregx
			a = take_uleb(&c);
			push_register(&e, context, a, take_sleb(&c));
			break;
		case 0x94: // deref_size
			push(&e, load_stack(&e, context, pop(&e), take_byte(&c)));
			break;
		case 0x96: break; // nop
		case 0x1a: case 0x1b: case 0x1c: case 0x1d: case 0x1e: case 0x21: case 0x22: case 0x24:
		case 0x25: case 0x26: case 0x27: case 0x29: case 0x2a: case 0x2b: case 0x2c: case 0x2d:
		case 0x2e: binary(&e, op); break;
		default: return DWARF_BAD;
		}
	}
	*out = pop(&e);
	if (c.bad || e.failed)
		return e.outside ? DWARF_OUTSIDE : DWARF_BAD;
	return DWARF_DONE;
}
