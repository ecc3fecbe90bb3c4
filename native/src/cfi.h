// cfi.h -- call frame information: how to step from one place in the code to its caller
//
// Layer 3. A row says where the canonical frame address (CFA) is and where the caller's registers
// stand, for one instruction. Only the columns that a walk needs are tracked.
#ifndef MEMLEAK_CFI_H
#define MEMLEAK_CFI_H

#include "elfimage.h"

enum cfi_status {
	CFI_FOUND,
	CFI_NONE, // nothing describes this place
	CFI_BAD,  // something does, of a kind that we do not follow
};

enum cfi_kind {
	CFI_SAME = 0,       // the register keeps its value
	CFI_UNDEFINED,      // it is lost; for the return address: this is the outermost frame
	CFI_OFFSET,         // saved at CFA + offset
	CFI_VAL_OFFSET,     // is CFA + offset
	CFI_REGISTER,       // is in register `reg` (for the CFA: reg + offset)
	CFI_EXPRESSION,     // saved where the expression says
	CFI_VAL_EXPRESSION, // is what the expression says
};

// 8 bytes: an interpreter of these holds a dozen on the stack of the traced program.
struct cfi_rule {
	uint8_t kind;
	uint8_t reg;
	uint16_t expression_bytes;
	union {
		int32_t offset;
		uint32_t expression; // where it stands, from `low` of the image
	};
};

static inline const uint8_t *cfi_code(const struct elf_image *image, const struct cfi_rule *rule)
{
	return (const uint8_t *)(image->low + rule->expression);
}

#define CFI_NO_REGISTER 0xFFU

struct cfi_row {
	struct cfi_rule cfa; // CFI_REGISTER or CFI_VAL_EXPRESSION
	struct cfi_rule ra, bp;
	struct cfi_rule extra; // of the register the caller asked for
	bool signal_frame;     // the caller was interrupted: its pc is exact
};

// The row for the instruction at `address`, which must lie in `image`'s executable segments.
// `extra_register`: one more column to follow, or CFI_NO_REGISTER.
enum cfi_status cfi_find_row(const struct elf_image *image, uintptr_t address, unsigned extra_register,
			     struct cfi_row *out);

#endif
