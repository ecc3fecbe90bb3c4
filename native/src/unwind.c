// unwind.c -- the return addresses of the calling thread, innermost first
//
// Context:   sampled. No allocation, no lock, no system call, no libc call.
// Invariant: every load from the stack lies in [sp at the start, end of the stack); on the way up sp
//            only rises; so a walk ends, and faults on no contents of registers and stack.
// Why:       the rule of each place in the code is derived from its call frame information once, and
//            kept in a cache of 16-byte entries that all threads share without locks: 6 ns a frame
//            where libgcc takes 125 to 600.
// Proof:     tests/native/test_unwind.c (equal to libgcc's on random stacks; random registers and
//            stack contents between guard pages); benchmarks/unwind_cost.py; tests/models/unload.pml (the cache)
#include "unwind.h"

#include "arch_x86_64.h"
#include "atomics.h"
#include "cfi.h"
#include "memleak_format.h"
#include "modules.h"
#include "unwind_step.h"

// ---- rules ---------------------------------------------------------------------------------------
//
// One word: CFA offset in bytes (signed, 63..32) | module (31..16) | place of the saved bp from the CFA
// in words (signed, 15..8) | kind (7..0). The common kinds are made of two bits; the return address
// stands just below the CFA in all kinds that give a CFA.

#define RULE_FROM_BP 1U // CFA = bp + offset, else sp + offset
#define RULE_BP_SAVED 2U // bp is on the stack, else it keeps its value

enum rule_kind { // all other bits: one of these
	RULE_COMMON = 0,
	RULE_REALIGNED = 1 << 2, // CFA = *(bp + offset), bp = *bp
	RULE_COMPUTE = 2 << 2,   // what no rule word can tell: unwind_step()
	RULE_OUTERMOST = 3 << 2,
	RULE_NO_CFI = 4 << 2,
	RULE_BAD_CFI = 5 << 2,
	RULE_KINDS = 0xFC,
};

#define CFA_SHIFT 32
#define MODULE_SHIFT 16
#define BP_SHIFT 8

_Static_assert(MODULES_MAX <= 1U << 16, "module ids outgrew the rule word");

// A place in the code: a return address, or EXACT | the interrupted instruction. The two are looked
// up differently; the bit is free in both and is the one that marks such a frame.
#define EXACT MLF_FRAME_EXACT

#define CACHE_SET_BITS 13
#define MIX 0x9E3779B97F4A7C15ULL

// key = place ^ salt of the module generation ^ word * MIX. An entry read while it is rewritten does
// not match, so that two relaxed loads are enough; nor does one of before an unload. Any thread
// writes, any thread reads.
struct cache_entry {
	uint64_t key, word;
};
static struct cache_entry cache[1U << CACHE_SET_BITS][2] __attribute__((aligned(64)));

static inline intptr_t rule_cfa_offset(uint64_t word) { return (int64_t)word >> CFA_SHIFT; }
static inline unsigned rule_module(uint64_t word) { return (uint16_t)(word >> MODULE_SHIFT); }
static inline intptr_t rule_bp_place(uint64_t word) { return (int8_t)(word >> BP_SHIFT) * (intptr_t)sizeof(uintptr_t); }
static inline struct cache_entry *cache_set(uint64_t place) { return cache[place * MIX >> (64 - CACHE_SET_BITS)]; }

static inline uintptr_t lookup_address(uint64_t place)
{
	return place & EXACT ? place & ~EXACT : place - 1; // a return address may be its function's end
}

// A rule word, still without module.
static uint64_t rule_from_row(const struct elf_image *image, const struct cfi_row *row)
{
	const struct cfi_rule *cfa = &row->cfa, *bp = &row->bp;
	if (row->ra.kind == CFI_UNDEFINED)
		return RULE_OUTERMOST;
	if (row->ra.kind == CFI_SAME)
		return RULE_BAD_CFI;
	if (row->signal_frame || row->ra.kind != CFI_OFFSET || row->ra.offset != -(int)sizeof(uintptr_t))
		return RULE_COMPUTE;

	if (cfa->kind == CFI_REGISTER && (cfa->reg == ARCH_SP || cfa->reg == ARCH_BP)) {
		uint64_t word = (uint64_t)(int64_t)cfa->offset << CFA_SHIFT | (cfa->reg == ARCH_BP ? RULE_FROM_BP : 0);
		if (bp->kind == CFI_SAME)
			return word;
		if (bp->kind == CFI_OFFSET && bp->offset % 8 == 0 && bp->offset < 0 && bp->offset >= -8 * 128)
			return word | RULE_BP_SAVED | (uint64_t)(uint8_t)(bp->offset / 8) << BP_SHIFT;
	} else if (cfa->kind == CFI_VAL_EXPRESSION && cfa->expression_bytes == 3 && bp->kind == CFI_EXPRESSION &&
		   bp->expression_bytes == 2) {
		// gcc: def_cfa_expression(breg6 n; deref), bp at (breg6 0). n is a 7-bit number here.
		const uint8_t *code = cfi_code(image, cfa), *bp_code = cfi_code(image, bp);
		int64_t offset = code[1] & 0x40 ? code[1] - 0x80 : code[1];
		if (code[0] == 0x70 + ARCH_BP && !(code[1] & 0x80) && code[2] == 0x06 &&
		    bp_code[0] == 0x70 + ARCH_BP && bp_code[1] == 0)
			return RULE_REALIGNED | (uint64_t)offset << CFA_SHIFT;
	}
	return RULE_COMPUTE;
}

// The rule for a place that the cache does not hold. A word of module 0: no known object.
static NOINLINE uint64_t rule_derive(uint64_t place, uint64_t salt)
{
	uintptr_t address = lookup_address(place);
	unsigned id = place < EXACT << 1 ? modules_find(address) : 0;
	if (!id)
		return RULE_NO_CFI;
	struct cfi_row row;
	uint64_t word = RULE_NO_CFI;
	const struct elf_image *image = &modules_get(id)->image;
	switch (cfi_find_row(image, address, CFI_NO_REGISTER, &row)) {
	case CFI_FOUND: word = rule_from_row(image, &row); break;
	case CFI_NONE: break;
	case CFI_BAD: word = RULE_BAD_CFI; break;
	}
	word |= (uint64_t)id << MODULE_SHIFT;

	// The newest goes first, the one before second. Relaxed: a torn entry does not match.
	struct cache_entry *set = cache_set(place);
	uint64_t key = load_relaxed(&set[0].key), old = load_relaxed(&set[0].word);
	store_relaxed(&set[1].key, key);
	store_relaxed(&set[1].word, old);
	store_relaxed(&set[0].key, place ^ salt ^ word * MIX);
	store_relaxed(&set[0].word, word);
	return word;
}

static inline uint64_t rule_of(uint64_t place, uint64_t salt)
{
	struct cache_entry *set = cache_set(place);
	for (unsigned way = 0; way < 2; way++) {
		uint64_t word = load_relaxed(&set[way].word), key = load_relaxed(&set[way].key);
		if (likely((key ^ word * MIX) == (place ^ salt)))
			return word;
	}
	return rule_derive(place, salt);
}

// ---- the walk ------------------------------------------------------------------------------------

static enum unwind_end end_of_rule(uint64_t word)
{
	switch (word & RULE_KINDS) {
	case RULE_OUTERMOST: return UNWIND_COMPLETE;
	case RULE_NO_CFI: return UNWIND_NO_CFI;
	}
	return UNWIND_BAD_CFI;
}

static inline uint64_t hash_frame(uint64_t sum, uint64_t frame) { return ((sum << 27 | sum >> 37) ^ frame) * MIX; }

static inline uint64_t hash_end(uint64_t sum, unsigned count)
{
	sum = (sum ^ sum >> 32 ^ count) * MLF_CHECK_3;
	return sum ^ sum >> 29;
}

uint64_t unwind_hash(const uint64_t *frames, unsigned count)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < count; i++)
		sum = hash_frame(sum, frames[i]);
	return hash_end(sum, count);
}

unsigned unwind(const struct registers *registers, struct unwind_bounds bounds, uint64_t *frames, unsigned max,
		uint64_t *hash, enum unwind_end *end)
{
	// What changes at each frame stands in registers: 55 instructions a frame, most of them beside
	// the chain load return address, multiply, load rule, add (benchmarks/unwind_cost.py).
	uint64_t place = registers->pc, sum = 0;
	const uint64_t salt = modules_generation() * MIX;
	uintptr_t sp = registers->sp, bp = registers->bp, low = sp, high = bounds.high, interrupted = 0;
	unsigned count = 0;
	bool moved = false;
	enum unwind_end why = UNWIND_COMPLETE;
	if (unlikely(sp < bounds.low || sp > high))
		sp = low = high = 0; // nothing may be read: no CFA is above 0 and at most 0

	for (;;) {
		if (unlikely(count == max)) {
			why = UNWIND_DEPTH;
			break;
		}
		uint64_t word = rule_of(place, salt);
		uint64_t frame = likely(rule_module(word)) ? place + module_frame_base[rule_module(word)] : 0;
		frames[count++] = frame;
		sum = hash_frame(sum, frame);

		uintptr_t cfa = (word & RULE_FROM_BP ? bp : sp) + (uintptr_t)rule_cfa_offset(word);
		if (unlikely(word & RULE_KINDS)) {
			if ((word & RULE_KINDS) == RULE_COMPUTE) {
				struct unwind_walk w = {.pc = place & ~EXACT, .sp = sp, .bp = bp, .low = low, .high = high};
				w.exact = place & EXACT ? interrupted : 0;
				w.moved = moved;
				enum unwind_step step = unwind_step(registers, count - 1, rule_module(word), &w);
				if (step != UNWIND_STEP_DONE) {
					why = step == UNWIND_STEP_OUTSIDE ? UNWIND_BOUNDS : UNWIND_BAD_CFI;
					break;
				}
				sp = w.sp, bp = w.bp, low = w.low, high = w.high, interrupted = w.exact, moved = w.moved;
				place = w.pc ? w.pc | (w.exact ? EXACT : 0) : 0;
				if (place == 0)
					break;
				continue;
			}
			if ((word & RULE_KINDS) != RULE_REALIGNED) {
				why = end_of_rule(word);
				break;
			}
			cfa = bp + (uintptr_t)rule_cfa_offset(word);
			if (!unwind_in_range(low, high, cfa)) {
				why = UNWIND_BOUNDS;
				break;
			}
			cfa = unwind_load(cfa);
			bp = unwind_in_range(low, high, bp) ? unwind_load(bp) : UNWIND_BP_UNKNOWN;
		}
		if (unlikely(cfa < sp + sizeof(uintptr_t) || cfa > high)) {
			why = UNWIND_BOUNDS;
			break;
		}
		if (word & RULE_BP_SAVED) {
			uintptr_t saved = cfa + (uintptr_t)rule_bp_place(word);
			bp = likely(saved >= low && saved < cfa) ? unwind_load(saved) : UNWIND_BP_UNKNOWN;
		}
		place = unwind_load(cfa - sizeof(uintptr_t));
		sp = cfa;
		if (unlikely(place == 0))
			break;
	}
	*hash = hash_end(sum, count);
	*end = why;
	return count;
}
