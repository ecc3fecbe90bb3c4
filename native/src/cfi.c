// cfi.c -- call frame information: how to step from one place in the code to its caller
//
// Context:   sampled. No allocation, no lock, no libc call.
// Invariant: every byte is read through a cursor that ends with the readable range it lies in; every
//            loop is bounded by bytes or by a count.
// Why:       binary search in .eh_frame_hdr, then one pass over the CIE's and FDE's programs up to the
//            address. Three columns and three remembered states: an interpreter with all 17 columns
//            takes more stack than a hook may use.
// Proof:     tests/native/test_unwind.c (equal to libgcc's; mutated tables)
#include "cfi.h"

#include "arch_x86_64.h"
#include "dwarf.h"

#define CFI_INSTRUCTIONS_MAX (1U << 16)
#define CFI_REMEMBERED 3U

static struct cursor cursor_at(const struct elf_image *image, uintptr_t address)
{
	uintptr_t end = elf_image_readable_end(image, address);
	return (struct cursor){.at = (const uint8_t *)address, .end = (const uint8_t *)(end ? end : address),
			       .bad = end == 0};
}

// ---- finding the entry -----------------------------------------------------------------------------

// Address of the frame description entry that may cover `address`; 0 if there is no such table or
// the address lies before all of its entries.
static uintptr_t find_fde(const struct elf_image *image, uintptr_t address)
{
	uintptr_t table_base = (uintptr_t)image->eh_frame_hdr;
	if (!table_base || image->eh_frame_hdr_bytes < 12)
		return 0;
	struct cursor c = {.at = image->eh_frame_hdr, .end = image->eh_frame_hdr + image->eh_frame_hdr_bytes};
	uint8_t version = take_byte(&c), frame_encoding = take_byte(&c);
	uint8_t count_encoding = take_byte(&c), table_encoding = take_byte(&c);
	// Every linker writes this table encoding; others would not be sorted pairs of 4 bytes.
	if (version != 1 || count_encoding == PE_OMIT || table_encoding != (PE_DATAREL | PE_SDATA4))
		return 0;
	take_encoded(&c, frame_encoding, table_base);
	uint64_t count = take_encoded(&c, count_encoding, table_base);
	uint64_t room = (uint64_t)(c.end - c.at) / 8;
	if (c.bad || count == 0 || count > room)
		return 0;

	int64_t wanted = (int64_t)(address - table_base);
	uint64_t low = 0, high = count; // first pair that starts after `wanted` is in [low, high]
	while (low < high) {
		uint64_t middle = (low + high) / 2;
		if ((int32_t)dwarf_load_u32(c.at + middle * 8) <= wanted)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return 0;
	return table_base + (uintptr_t)(int64_t)(int32_t)dwarf_load_u32(c.at + (low - 1) * 8 + 4);
}

// Enter the CIE or FDE at c: c becomes its content. Gives the 4-byte id field and its address.
static uint32_t enter_entry(struct cursor *c, uintptr_t *id_place)
{
	uint64_t bytes = take(c, 4);
	if (bytes == 0xffffffff)
		bytes = take(c, 8);
	if (bytes < 4 || bytes > (size_t)(c->end - c->at)) {
		c->bad = true;
		return 0;
	}
	c->end = c->at + bytes;
	*id_place = (uintptr_t)c->at;
	return (uint32_t)take(c, 4);
}

struct common {
	struct cursor program;
	uint64_t code_align;
	int64_t data_align;
	uintptr_t base; // of the places of expressions
	uint8_t encoding;
	bool has_augmentation_data, signal_frame;
};

static bool read_common(struct cursor c, struct common *out)
{
	uintptr_t place;
	*out = (struct common){.encoding = PE_ABSPTR};
	if (enter_entry(&c, &place) != 0 || c.bad)
		return false;
	uint8_t version = take_byte(&c);
	if (version != 1 && version != 3)
		return false;
	const uint8_t *augmentation = c.at;
	while (take_byte(&c) != 0)
		;
	out->code_align = take_uleb(&c);
	out->data_align = take_sleb(&c);
	uint64_t ra_register = version == 1 ? take_byte(&c) : take_uleb(&c);
	if (c.bad || ra_register != ARCH_RA)
		return false;
	const uint8_t *program = c.at;
	if (*augmentation == 'z') {
		uint64_t bytes = take_uleb(&c);
		out->has_augmentation_data = true;
		program = c.at + (bytes < (size_t)(c.end - c.at) ? bytes : (size_t)(c.end - c.at));
		for (augmentation++; *augmentation; augmentation++)
			switch (*augmentation) {
			case 'R': out->encoding = take_byte(&c); break;
			case 'L': take_byte(&c); break;
			case 'P': take_encoded_value(&c, take_byte(&c)); break;
			case 'S': out->signal_frame = true; break;
			default: return false;
			}
	} else if (*augmentation) {
		return false;
	}
	out->program = (struct cursor){.at = program, .end = c.end};
	return !c.bad;
}

// ---- the program -------------------------------------------------------------------------------------

enum column { COLUMN_RA, COLUMN_BP, COLUMN_EXTRA, COLUMNS };

struct state {
	struct cfi_rule cfa, column[COLUMNS];
};

struct machine {
	struct state now;
	struct cfi_rule initial[COLUMNS]; // as the CIE leaves them: what DW_CFA_restore goes back to
	uint32_t remembered;
	uint32_t extra_register;
	struct state memory[CFI_REMEMBERED];
};

static struct cfi_rule *column_of(struct machine *m, uint64_t reg, struct cfi_rule *scratch)
{
	if (reg == ARCH_RA)
		return &m->now.column[COLUMN_RA];
	if (reg == ARCH_BP)
		return &m->now.column[COLUMN_BP];
	if (reg == m->extra_register)
		return &m->now.column[COLUMN_EXTRA];
	return scratch;
}

static void restore(struct machine *m, uint64_t reg)
{
	if (reg == ARCH_RA)
		m->now.column[COLUMN_RA] = m->initial[COLUMN_RA];
	else if (reg == ARCH_BP)
		m->now.column[COLUMN_BP] = m->initial[COLUMN_BP];
	else if (reg == m->extra_register)
		m->now.column[COLUMN_EXTRA] = m->initial[COLUMN_EXTRA];
}

// A number, times a factor, as an offset.
static int32_t take_offset(struct cursor *c, bool is_signed, int64_t factor)
{
	uint64_t number = is_signed ? (uint64_t)take_sleb(c) : take_uleb(c);
	int64_t value = (int64_t)(number * (uint64_t)factor);
	if (value != (int32_t)value)
		c->bad = true;
	return (int32_t)value;
}

static uint8_t register_number(struct cursor *c)
{
	uint64_t reg = take_uleb(c);
	return reg < CFI_NO_REGISTER ? (uint8_t)reg : CFI_NO_REGISTER - 1;
}

static struct cfi_rule expression_rule(struct cursor *c, uint8_t kind, uintptr_t base)
{
	uint64_t bytes = take_uleb(c);
	uintptr_t place = (uintptr_t)c->at - base;
	struct cfi_rule rule = {.kind = kind, .expression_bytes = (uint16_t)bytes, .expression = (uint32_t)place};
	if (bytes > UINT16_MAX || place > UINT32_MAX)
		c->bad = true;
	skip(c, bytes);
	return rule;
}

// Run a program until its end or until it speaks of instructions behind `address`.
static bool run(struct cursor c, const struct common *common, uintptr_t location, uintptr_t address,
		struct machine *m)
{
	struct cfi_rule scratch;
	for (uint32_t step = 0; c.at < c.end && !c.bad; step++) {
		if (step == CFI_INSTRUCTIONS_MAX)
			return false;
		uint8_t instruction = take_byte(&c), low = instruction & 0x3f;
		uint64_t advance = 0, reg;
		struct cfi_rule *column;
		switch (instruction >> 6) {
		case 1: advance = low * common->code_align; goto advanced;
		case 2: reg = low; goto offset;
		case 3: restore(m, low); continue;
		}
		switch (low) {
		case 0x00: break; // nop
		case 0x01: // set_loc
			location = take_encoded(&c, common->encoding, 0);
			if (location > address)
				return !c.bad;
			break;
		case 0x02: advance = take(&c, 1) * common->code_align; goto advanced;
		case 0x03: advance = take(&c, 2) * common->code_align; goto advanced;
		case 0x04: advance = take(&c, 4) * common->code_align; goto advanced;
		case 0x05: // offset_extended
			reg = take_uleb(&c);
		offset:
			column = column_of(m, reg, &scratch);
			*column = (struct cfi_rule){.kind = CFI_OFFSET};
			column->offset = take_offset(&c, false, common->data_align);
			break;
		case 0x06: restore(m, take_uleb(&c)); break; // restore_extended
		case 0x07: // undefined
			*column_of(m, take_uleb(&c), &scratch) = (struct cfi_rule){.kind = CFI_UNDEFINED};
			break;
		case 0x08: // same_value
			*column_of(m, take_uleb(&c), &scratch) = (struct cfi_rule){.kind = CFI_SAME};
			break;
		case 0x09: // register
			column = column_of(m, take_uleb(&c), &scratch);
			*column = (struct cfi_rule){.kind = CFI_REGISTER, .reg = register_number(&c)};
			break;
		case 0x0a: // remember_state
			if (m->remembered == CFI_REMEMBERED)
				return false;
			m->memory[m->remembered++] = m->now;
			break;
		case 0x0b: // restore_state
			if (m->remembered == 0)
				return false;
			m->now = m->memory[--m->remembered];
			break;
		case 0x0c: // def_cfa
		case 0x12: // def_cfa_sf
			m->now.cfa = (struct cfi_rule){.kind = CFI_REGISTER, .reg = register_number(&c)};
			m->now.cfa.offset = low == 0x0c ? take_offset(&c, false, 1)
							: take_offset(&c, true, common->data_align);
			break;
		case 0x0d: // def_cfa_register: like the next two, only after a register and an offset
			m->now.cfa.reg = register_number(&c);
			c.bad |= m->now.cfa.kind != CFI_REGISTER;
			break;
		case 0x0e: // def_cfa_offset
			m->now.cfa.offset = take_offset(&c, false, 1);
			c.bad |= m->now.cfa.kind != CFI_REGISTER;
			break;
		case 0x0f: m->now.cfa = expression_rule(&c, CFI_VAL_EXPRESSION, common->base); break; // def_cfa_expression
		case 0x10: // expression
		case 0x16: // val_expression
			column = column_of(m, take_uleb(&c), &scratch);
			*column = expression_rule(&c, low == 0x10 ? CFI_EXPRESSION : CFI_VAL_EXPRESSION, common->base);
			break;
		case 0x11: // offset_extended_sf
		case 0x14: // val_offset
		case 0x15: // val_offset_sf
			column = column_of(m, take_uleb(&c), &scratch);
			*column = (struct cfi_rule){.kind = low == 0x11 ? CFI_OFFSET : CFI_VAL_OFFSET};
			column->offset = take_offset(&c, low != 0x14, common->data_align);
			break;
		case 0x13: // def_cfa_offset_sf
			m->now.cfa.offset = take_offset(&c, true, common->data_align);
			c.bad |= m->now.cfa.kind != CFI_REGISTER;
			break;
		case 0x1d: advance = take(&c, 8) * common->code_align; goto advanced; // MIPS_advance_loc8
		case 0x2e: take_uleb(&c); break; // GNU_args_size
		case 0x2f: // GNU_negative_offset_extended
			column = column_of(m, take_uleb(&c), &scratch);
			*column = (struct cfi_rule){.kind = CFI_OFFSET};
			column->offset = take_offset(&c, false, (int64_t)(0 - (uint64_t)common->data_align));
			break;
		default: return false;
		}
		continue;
	advanced:
		location += advance;
		if (location > address)
			return !c.bad;
	}
	return !c.bad;
}

enum cfi_status cfi_find_row(const struct elf_image *image, uintptr_t address, unsigned extra_register,
			     struct cfi_row *out)
{
	if (address < image->text_low || address >= image->text_high)
		return CFI_NONE;
	uintptr_t place = find_fde(image, address);
	if (!place)
		return CFI_NONE;

	struct cursor fde = cursor_at(image, place);
	uintptr_t id_place;
	uint32_t id = enter_entry(&fde, &id_place);
	struct common common;
	if (fde.bad || id == 0 || !read_common(cursor_at(image, id_place - id), &common))
		return CFI_BAD;
	common.base = image->low;
	uintptr_t start = take_encoded(&fde, common.encoding, 0);
	uintptr_t bytes = take_encoded_value(&fde, common.encoding);
	if (fde.bad)
		return CFI_BAD;
	if (address - start >= bytes)
		return CFI_NONE;
	if (common.has_augmentation_data)
		skip(&fde, take_uleb(&fde));

	struct machine m;
	m.remembered = 0;
	m.extra_register = extra_register;
	m.now = (struct state){0};
	if (!run(common.program, &common, start, UINTPTR_MAX, &m))
		return CFI_BAD;
	for (unsigned i = 0; i < COLUMNS; i++)
		m.initial[i] = m.now.column[i];
	if (!run(fde, &common, start, address, &m))
		return CFI_BAD;

	*out = (struct cfi_row){.cfa = m.now.cfa,
				.ra = m.now.column[COLUMN_RA],
				.bp = m.now.column[COLUMN_BP],
				.extra = m.now.column[COLUMN_EXTRA],
				.signal_frame = common.signal_frame};
	return out->cfa.kind == CFI_SAME ? CFI_BAD : CFI_FOUND;
}
