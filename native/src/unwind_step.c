// unwind_step.c -- a step up the stack that no rule word can tell
//
// Context:   sampled. No allocation, no lock, no system call, no libc call.
// Invariant: every load from the stack lies in [low, high) of the walk, and sp only rises, but behind a signal handler that ran
//            on a stack of its own.
// Why:       signal frames, code that switches stacks and the loader's lazy binding tell their caller's frame by expressions, or
//            by registers that a walk does not follow: what they need is read again each time, it is rare.
// Proof:     tests/native/test_unwind.c (equal to libgcc's; signal handlers; stack contents between guard pages)
#include "unwind_step.h"

#include "arch_x86_64.h"
#include "cfi.h"
#include "dwarf.h"
#include "modules.h"
#include "unwind_thread.h"

static inline bool in_stack(const struct unwind_walk *w, uintptr_t address) { return unwind_in_range(w->low, w->high, address); }

static bool known_signal_frame(const struct elf_image *image, const struct cfi_row *row)
{
	const uint8_t *e = cfi_code(image, &row->cfa);
	return row->signal_frame && row->cfa.kind == CFI_VAL_EXPRESSION && row->cfa.expression_bytes == 4 &&
	       e[0] == 0x70 + ARCH_SP && e[1] == ((ARCH_SIGNAL_SP & 0x7f) | 0x80) && e[2] == ARCH_SIGNAL_SP >> 7 &&
	       e[3] == 0x06;
}

static enum unwind_step evaluate(const struct unwind_walk *w, const struct cfi_rule *rule, const struct dwarf_context *context,
			  const uintptr_t *initial, uintptr_t *out)
{
	switch (dwarf_expression(cfi_code(w->image, rule), rule->expression_bytes, context, initial, out)) {
	case DWARF_DONE: return UNWIND_STEP_DONE;
	case DWARF_OUTSIDE: return UNWIND_STEP_OUTSIDE;
	case DWARF_BAD: break;
	}
	return UNWIND_STEP_BAD;
}

// What a rule makes of `reg` in the caller. *value holds the register's value in this frame, if
// *known.
static enum unwind_step apply(const struct unwind_walk *w, const struct cfi_rule *rule, const struct dwarf_context *context,
		       uintptr_t cfa, uintptr_t *value, bool *known)
{
	uintptr_t place = cfa + (uintptr_t)(intptr_t)rule->offset;
	enum unwind_step step = UNWIND_STEP_DONE;
	switch (rule->kind) {
	case CFI_SAME: return UNWIND_STEP_DONE;
	case CFI_UNDEFINED: *value = 0, *known = false; return UNWIND_STEP_DONE;
	case CFI_REGISTER:
		if (rule->reg >= ARCH_REGISTERS || !(context->known >> rule->reg & 1))
			return UNWIND_STEP_BAD;
		*value = context->registers[rule->reg];
		break;
	case CFI_VAL_OFFSET: *value = place; break;
	case CFI_VAL_EXPRESSION:
		step = evaluate(w, rule, context, &cfa, value);
		break;
	case CFI_EXPRESSION:
		step = evaluate(w, rule, context, &cfa, &place);
		if (step != UNWIND_STEP_DONE)
			return step;
		// fall through
	case CFI_OFFSET:
		if (!in_stack(w, place))
			return UNWIND_STEP_OUTSIDE;
		*value = unwind_load(place);
		break;
	default: return UNWIND_STEP_BAD;
	}
	*known = true;
	return step;
}

static void fill_context(const struct unwind_walk *w, uintptr_t *registers, struct dwarf_context *context)
{
	context->registers = registers;
	context->stack_low = w->low;
	context->stack_high = w->high;
	context->known = 1U << ARCH_SP | 1U << ARCH_BP | 1U << ARCH_RA;
	if (w->exact > 1) {
		for (unsigned i = 0; i < ARCH_REGISTERS; i++)
			registers[i] = unwind_load(w->exact + arch_signal_register(i));
		context->known = (1U << ARCH_REGISTERS) - 1;
	}
	if (w->extra_known) {
		registers[w->extra_register] = w->extra_value;
		context->known |= 1U << w->extra_register;
	}
	registers[ARCH_SP] = w->sp;
	registers[ARCH_BP] = w->bp;
	registers[ARCH_RA] = w->pc;
}

// Behind a handler that ran on a stack of its own, the interrupted frames lie on the thread's.
static bool move_to_thread_stack(struct unwind_walk *w, uintptr_t sp)
{
	struct unwind_bounds bounds = unwind_thread_stack_from(sp);
	w->low = bounds.low;
	w->high = bounds.high;
	w->moved = true;
	return sp >= bounds.low && sp < bounds.high;
}

// One step by reading the row for where w stands.
static NOINLINE enum unwind_step walk_compute(struct unwind_walk *w)
{
	const struct elf_image *image = w->image;
	uintptr_t address = w->pc - (w->exact == 0);
	struct cfi_row row;
	uintptr_t registers[ARCH_REGISTERS];
	struct dwarf_context context;
	if (cfi_find_row(image, address, w->extra_register, &row) != CFI_FOUND)
		return UNWIND_STEP_BAD;
	fill_context(w, registers, &context);

	uintptr_t cfa;
	enum unwind_step step = UNWIND_STEP_DONE;
	if (row.cfa.kind == CFI_REGISTER) {
		if (row.cfa.reg >= ARCH_REGISTERS)
			return UNWIND_STEP_BAD;
		if (!(context.known >> row.cfa.reg & 1)) {
			bool hopeless = w->extra_register != CFI_NO_REGISTER || !(ARCH_PRESERVED >> row.cfa.reg & 1);
			w->extra_register = row.cfa.reg;
			return hopeless ? UNWIND_STEP_BAD : UNWIND_STEP_NEEDS_REGISTER;
		}
		cfa = registers[row.cfa.reg] + (uintptr_t)(intptr_t)row.cfa.offset;
	} else {
		step = evaluate(w, &row.cfa, &context, NULL, &cfa);
		if (step != UNWIND_STEP_DONE)
			return step;
	}
	bool rising = cfa >= w->sp + sizeof(uintptr_t) && cfa <= w->high;
	if (!rising && !row.signal_frame)
		return UNWIND_STEP_OUTSIDE;

	uintptr_t pc = 0, bp = w->bp;
	bool pc_known = false, bp_known = true;
	step = apply(w, &row.ra, &context, cfa, &pc, &pc_known);
	if (step != UNWIND_STEP_DONE || !pc_known)
		return step == UNWIND_STEP_OUTSIDE ? UNWIND_STEP_OUTSIDE : UNWIND_STEP_BAD;
	if (apply(w, &row.bp, &context, cfa, &bp, &bp_known) != UNWIND_STEP_DONE)
		bp = UNWIND_BP_UNKNOWN;
	if (w->extra_register != CFI_NO_REGISTER &&
	    apply(w, &row.extra, &context, cfa, &w->extra_value, &w->extra_known) != UNWIND_STEP_DONE)
		w->extra_known = false;

	w->exact = 0;
	if (row.signal_frame) {
		bool whole = known_signal_frame(image, &row) && in_stack(w, w->sp) && in_stack(w, w->sp + ARCH_SIGNAL_END - 8);
		w->exact = whole ? w->sp : 1;
		if (!rising && !move_to_thread_stack(w, cfa))
			return UNWIND_STEP_OUTSIDE;
	}
	w->pc = pc;
	w->sp = cfa;
	w->bp = bp;
	return UNWIND_STEP_DONE;
}

// A frame asks for a register that only its callees' frames can tell (rbx in the loader's lazy
// binding). Walk again from the start and follow that one register up to the frame `depth`.
static NOINLINE bool recover_register(const struct registers *registers, unsigned depth, struct unwind_walk *w)
{
	struct unwind_walk again = {.pc = registers->pc,
			     .sp = registers->sp,
			     .bp = registers->bp,
			     .low = registers->sp,
			     .high = w->high,
			     .extra_register = w->extra_register};
	for (unsigned i = 0; i < depth && !w->moved; i++) {
		unsigned id = modules_find(again.pc - (again.exact == 0));
		again.image = &modules_get(id)->image;
		if (!id || walk_compute(&again) != UNWIND_STEP_DONE)
			return false;
	}
	w->extra_value = again.extra_value;
	w->extra_known = !w->moved && again.extra_known && again.pc == w->pc && again.sp == w->sp;
	return w->extra_known;
}

NOINLINE enum unwind_step unwind_step(const struct registers *registers, unsigned depth, unsigned module, struct unwind_walk *w)
{
	w->image = &modules_get(module)->image;
	w->extra_register = CFI_NO_REGISTER;
	w->extra_known = false;
	enum unwind_step step = walk_compute(w);
	if (step == UNWIND_STEP_NEEDS_REGISTER)
		step = recover_register(registers, depth, w) ? walk_compute(w) : UNWIND_STEP_BAD;
	return step;
}
