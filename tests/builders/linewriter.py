"""Writes line programs of DWARF 2 to 5, opcode by opcode."""

from __future__ import annotations

from collections.abc import Sequence

from dwarfforms import fixed, form_number, sleb, uleb, with_length

_STANDARD = {
    "copy": 1, "advance_pc": 2, "advance_line": 3, "set_file": 4, "set_column": 5, "negate_stmt": 6,
    "set_basic_block": 7, "const_add_pc": 8, "fixed_advance_pc": 9, "set_prologue_end": 10,
    "set_epilogue_begin": 11, "set_isa": 12,
}  # fmt: skip
_OPERANDS = (0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1)
_CONTENT = {"path": 1, "directory_index": 2, "timestamp": 3, "size": 4, "MD5": 5}


class LineProgram:
    """The value of DW_AT_stmt_list.

    Args:
        directories: before DWARF 5 without the unit's own, which is number 0; in DWARF 5 all of them.
        files: (name, number of its directory); the first is number 1 before DWARF 5, then 0.
        path_form: how DWARF 5 holds the names: "string", "line_strp", "strp", "strx", …
        more_formats: further (content, form, bytes) of each file of DWARF 5, such as ("MD5", "data16", bytes(16)).
        operands: how many each opcode below `opcode_base` has, if it is not what is standard.
    """

    def __init__(
        self,
        version: int,
        *,
        directories: Sequence[str] = (),
        files: Sequence[tuple[str, int]] = (),
        offset_size: int = 4,
        address_size: int = 8,
        min_inst_length: int = 1,
        line_base: int = -5,
        line_range: int = 14,
        opcode_base: int = 13,
        path_form: str = "string",
        more_formats: Sequence[tuple[str, str, bytes]] = (),
        operands: Sequence[int] | None = None,
    ) -> None:
        self.version, self.offset_size, self.address_size = version, offset_size, address_size
        self.directories, self.files = list(directories), list(files)
        self.min_inst_length, self.line_base, self.line_range = min_inst_length, line_base, line_range
        self.opcode_base, self.path_form, self.more_formats = opcode_base, path_form, list(more_formats)
        self.operands = operands
        self.code = bytearray()
        self.offset = 0  # in .debug_line, once it was laid out

    # ---- opcodes -------------------------------------------------------------------------------------

    def standard(self, name: str, *operands: int) -> LineProgram:
        """Append a standard opcode."""
        self.code.append(_STANDARD[name])
        for operand in operands:
            if name == "fixed_advance_pc":
                self.code += fixed(operand, 2)
            else:
                self.code += sleb(operand) if name == "advance_line" else uleb(operand)
        return self

    def extended(self, number: int, operand: bytes = b"") -> LineProgram:
        """Append an extended opcode of any number."""
        self.code += b"\0" + uleb(1 + len(operand)) + bytes([number]) + operand
        return self

    def set_address(self, address: int) -> LineProgram:
        """Append DW_LNE_set_address."""
        return self.extended(2, fixed(address, self.address_size))

    def end_sequence(self) -> LineProgram:
        """Append DW_LNE_end_sequence."""
        return self.extended(1)

    def define_file(self, name: str, directory: int) -> LineProgram:
        """Append DW_LNE_define_file."""
        return self.extended(3, name.encode() + b"\0" + uleb(directory) + uleb(0) + uleb(0))

    def set_discriminator(self, value: int) -> LineProgram:
        """Append DW_LNE_set_discriminator."""
        return self.extended(4, uleb(value))

    def can_be_special(self, advance: int, lines: int) -> bool:
        """Tell whether one special opcode can say both: *advance* is in instructions."""
        return (
            self.line_base <= lines < self.line_base + self.line_range
            and self.opcode_base + lines - self.line_base + self.line_range * advance <= 255
        )

    def special(self, advance: int, lines: int) -> LineProgram:
        """Append a special opcode: a row after the address and the line moved on."""
        assert self.can_be_special(advance, lines)
        self.code.append(self.opcode_base + lines - self.line_base + self.line_range * advance)
        return self

    @property
    def const_advance(self) -> int:
        """How many instructions DW_LNS_const_add_pc passes."""
        return (255 - self.opcode_base) // self.line_range

    # ---- the whole -----------------------------------------------------------------------------------

    def bytes(self, strings: LineStrings) -> bytes:
        """Return the program with its header; names that stand elsewhere get their place in *strings*."""
        operands = bytes(self.operands if self.operands is not None else _OPERANDS[: self.opcode_base - 1])
        head = bytes([self.min_inst_length, *([1] if self.version >= 4 else []), 1])
        head += fixed(self.line_base, 1) + bytes([self.line_range, self.opcode_base]) + operands
        head += self._tables(strings) if self.version >= 5 else self._old_tables()
        body = fixed(self.version, 2)
        if self.version >= 5:
            body += bytes([self.address_size, 0])
        body += fixed(len(head), self.offset_size) + head + self.code
        return with_length(body, self.offset_size)

    def _old_tables(self) -> bytes:
        out = b"".join(name.encode() + b"\0" for name in self.directories) + b"\0"
        for name, directory in self.files:
            out += name.encode() + b"\0" + uleb(directory) + uleb(0) + uleb(0)
        return out + b"\0"

    def _tables(self, strings: LineStrings) -> bytes:
        form = uleb(form_number(self.path_form))
        out = b"\x01" + uleb(_CONTENT["path"]) + form + uleb(len(self.directories))
        out += b"".join(strings.encoded(self.path_form, name) for name in self.directories)
        out += bytes([2 + len(self.more_formats)])
        out += uleb(_CONTENT["path"]) + form + uleb(_CONTENT["directory_index"]) + uleb(form_number("udata"))
        for content, more, _ in self.more_formats:
            out += uleb(_CONTENT[content]) + uleb(form_number(more))
        out += uleb(len(self.files))
        for name, directory in self.files:
            out += strings.encoded(self.path_form, name) + uleb(directory)
            out += b"".join(value for _, _, value in self.more_formats)
        return out


class LineStrings:
    """How the names of a program are held: by the unit that it belongs to."""

    def encoded(self, form: str, text: str) -> bytes:
        """Return the bytes of a name in one form."""
        raise NotImplementedError
