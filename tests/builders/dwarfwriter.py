"""Writes DWARF 2 to 5 from scratch, so that a test says all there is in its input.

A `DwarfFile` has units, a `Unit` has a tree of `Die`s; attributes are (name, form, value), named as in the standard
without the prefixes. What a value may be depends on its form: a number, bytes, text, a `Die` that is referred to,
`Ranges`, a `LineProgram`, NEXT for where the entry's sibling is, or a function without arguments that is called once
all is laid out. `sections()` is what `elfwriter.write_elf` takes. In `tests/unit/test_dwarfwriter.py` other readers
confirm what is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dwarfforms import (
    FIXED_BYTES,
    UNIT_TYPES,
    attribute_number,
    fixed,
    form_number,
    length_bytes,
    sleb,
    tag_number,
    uleb,
    with_length,
)  # fmt: skip
from dwarftables import AddressTable, Ranges, RangeTable, StringOffsets, arange_set
from linewriter import LineProgram, LineStrings

NEXT = object()  # of DW_AT_sibling: what follows the entry's children
REF_UDATA_BYTES = 5  # a reference is as long before its target is known as after
Attribute = tuple  # name, form, value


@dataclass(eq=False)
class Die:
    """An entry, with what is below it. `has_children`: None says so if there are any."""

    tag: str | int
    attributes: list[Attribute] = field(default_factory=list)
    children: list[Die] = field(default_factory=list)
    has_children: bool | None = None
    offset: int = 0  # in its section, once it was laid out
    end: int = 0

    def all(self) -> Iterator[Die]:
        """Yield it and all below it."""
        yield self
        for child in self.children:
            yield from child.all()


@dataclass(eq=False)
class Unit:
    """A unit.

    Attributes:
        version: of its header; `header_version` if that is to lie.
        type: as of DWARF 5, "compile", "partial", "type", "skeleton", "split_compile" or "split_type"; before, a
            "type" stands in .debug_types, and the rest are one.
        id: of a skeleton and its split unit, or the signature of a type.
        described: the type of a type unit.
        aranges: (start, length) in .debug_aranges; None for no set.
        padding: what stands behind it.
        skeleton: of a split unit: whose addresses, and before DWARF 5 whose ranges, it uses.
    """

    version: int
    root: Die
    offset_size: int = 4
    address_size: int = 8
    type: str = "compile"
    id: int = 0
    described: Die | None = None
    aranges: Sequence[tuple[int, int]] | None = None
    padding: bytes = b""
    header_version: int | None = None
    skeleton: Unit | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        widths = self.offset_size, self.address_size
        shared = self.skeleton
        self.addresses = shared.addresses if shared else AddressTable(self.version, *widths)
        self.strings = StringOffsets(self.version, self.offset_size)
        self.ranges = (
            shared.ranges if shared and self.version < 5 else RangeTable(self.version, *widths, self.addresses)
        )
        self.abbrev_offset = 0

    @property
    def in_types(self) -> bool:
        """Whether it stands in .debug_types."""
        return self.type == "type" and self.version < 5

    def header(self, length: int) -> bytes:
        """Return the header of a unit with so many bytes of entries."""
        version = self.version if self.header_version is None else self.header_version
        body, abbrevs = fixed(version, 2), fixed(self.abbrev_offset, self.offset_size)
        if self.version >= 5:
            body += bytes([UNIT_TYPES[self.type], self.address_size]) + abbrevs
        else:
            body += abbrevs + bytes([self.address_size])
        if self.version >= 5 and self.type in ("skeleton", "split_compile"):
            body += fixed(self.id, 8)
        if self.type in ("type", "split_type"):
            described = self.described.offset - self.offset if self.described else 0
            body += fixed(self.id, 8) + fixed(described, self.offset_size)
        return with_length(body + bytes(length), self.offset_size)[: length_bytes(self.offset_size) + len(body)]


class StringTable:
    """.debug_str or .debug_line_str."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._known: dict[str, int] = {}

    def offset(self, text: str) -> int:
        """Return where a string is, which is appended if it is not there yet."""
        if text not in self._known:
            self._known[text] = len(self.data)
            self.data += text.encode("utf-8", "surrogateescape") + b"\0"
        return self._known[text]


class AbbrevTable:
    """A table of .debug_abbrev. Codes go up in steps: with 1 they are dense."""

    def __init__(self, step: int = 1) -> None:
        self._step = step
        self._codes: dict[tuple, int] = {}

    def code(self, die: Die, forms: Sequence[tuple[int, int, int | None]]) -> int:
        """Return the code of an entry that looks so."""
        children = bool(die.children) if die.has_children is None else die.has_children
        key = (tag_number(die.tag), children, tuple(forms))
        return self._codes.setdefault(key, 1 + len(self._codes) * self._step)

    def bytes(self) -> bytes:
        """Return the table; where codes are not dense they stand in descending order."""
        out = b""
        for (tag, children, forms), code in sorted(
            self._codes.items(), key=lambda item: item[1] * (1 if self._step == 1 else -1)
        ):
            out += uleb(code) + uleb(tag) + bytes([children])
            for name, form, implicit in forms:
                out += uleb(name) + uleb(form) + (b"" if implicit is None else sleb(implicit))
            out += b"\0\0"
        return out + b"\0"


class DwarfFile:
    """The debug information of one file.

    Args:
        units: as they stand in it.
        dwo: sections are named so, and programs and addresses are another file's.
        alternate: what the forms of dwz and of supplementary files refer to; its `sections()` are to be asked for last.
        splits: files that use the address tables of this one.
        one_abbrev_table: for all units.
        abbrev_step: between two codes of a table.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        *,
        dwo: bool = False,
        alternate: DwarfFile | None = None,
        splits: Sequence[DwarfFile] = (),
        one_abbrev_table: bool = False,
        abbrev_step: int = 1,
    ) -> None:
        self.units, self.dwo, self.alternate, self.splits = list(units), dwo, alternate, splits
        self.str, self.line_str = StringTable(), StringTable()
        table = AbbrevTable(abbrev_step)
        self._abbrevs = {id(unit): table if one_abbrev_table else AbbrevTable(abbrev_step) for unit in self.units}
        self._lines: list[tuple[LineProgram, Unit]] = []
        self._laid_out = False

    # ---- layout --------------------------------------------------------------------------------------

    def lay_out(self) -> None:
        """Give every entry its offset, and every table what it has to hold."""
        if self._laid_out:
            return
        self._laid_out = True
        for other in [*self.splits, *([self.alternate] if self.alternate else [])]:
            other.lay_out()
        at = {False: 0, True: 0}
        for unit in self.units:
            unit.offset = at[unit.in_types]
            at[unit.in_types] += len(self._unit_bytes(unit))
        self._tables()

    def sections(self) -> dict[str, bytes]:
        """Return the sections by name; those that would be empty are left out."""
        self.lay_out()
        made = {"abbrev": self._abbrev_section(), **self._tables()}
        made["line"] = self._line_section()
        made["info"] = b"".join(self._unit_bytes(unit) for unit in self.units if not unit.in_types)
        made["types"] = b"".join(self._unit_bytes(unit) for unit in self.units if unit.in_types)
        made["aranges"] = b"".join(
            arange_set(unit.offset, unit.aranges, unit.offset_size, unit.address_size)
            for unit in self.units
            if unit.aranges is not None
        )
        made["str"], made["line_str"] = bytes(self.str.data), bytes(self.line_str.data)
        ending = ".dwo" if self.dwo else ""
        return {f".debug_{name}{ending}": data for name, data in made.items() if data and data != b"\0"}

    def _tables(self) -> dict[str, bytes]:
        """What units refer to by number; where each table begins is known then."""
        made = {}
        for name, tables in (
            ("addr", [unit.addresses for unit in self.units if not unit.skeleton]),
            ("str_offsets", [unit.strings for unit in self.units]),
        ):
            made[name] = self._joined([table for table in tables if table.entries])
        for name, old in (("ranges", True), ("rnglists", False)):
            tables = [unit.ranges for unit in self.units if (unit.version < 5) == old and not (old and unit.skeleton)]
            made[name] = self._joined([table for table in tables if table.lists])
        return made

    @staticmethod
    def _joined(tables: Sequence[Any]) -> bytes:
        out = b""
        for table in tables:
            out += table.bytes(len(out))
        return out

    def _abbrev_section(self) -> bytes:
        out, placed = b"", {}
        for unit in self.units:
            table = self._abbrevs[id(unit)]
            if id(table) not in placed:
                placed[id(table)] = len(out)
                out += table.bytes()
            unit.abbrev_offset = placed[id(table)]
        return out

    def _line_section(self) -> bytes:
        out = b""
        for program, unit in self._lines:
            program.offset = len(out)
            out += program.bytes(_UnitStrings(self, unit))
        return out

    # ---- units and entries ---------------------------------------------------------------------------

    def _unit_bytes(self, unit: Unit) -> bytes:
        start = unit.offset + len(unit.header(0))
        body = self._die_bytes(unit, unit.root, start)
        return unit.header(len(body)) + body + unit.padding

    def _die_bytes(self, unit: Unit, die: Die, at: int) -> bytes:
        die.offset = at
        forms = [
            (attribute_number(name), form_number(form), value if form == "implicit_const" else None)
            for name, form, value in die.attributes
        ]
        out = uleb(self._abbrevs[id(unit)].code(die, forms))
        for _, form, value in die.attributes:
            out += self.encoded(unit, form, Die("", offset=die.end) if value is NEXT else value)
        for child in die.children:
            out += self._die_bytes(unit, child, at + len(out))
        if die.children or die.has_children:
            out += b"\0"
        die.end = at + len(out)
        return out

    def encoded(self, unit: Unit, form: str | int, value: Any) -> bytes:
        """Return a value in a form."""
        if form == "indirect":
            inner, value = value
            return uleb(form_number(inner)) + self.encoded(unit, inner, value)
        if form in ("flag_present", "implicit_const"):
            return b""
        if form == "string":
            return value.encode("utf-8", "surrogateescape") + b"\0"
        if isinstance(value, bytes):
            return self._block(form, value)
        number = self._number(unit, form, value)
        if form == "sdata":
            return sleb(number)
        if form == "ref_udata":
            return uleb(number, width=REF_UDATA_BYTES)
        if form in FIXED_BYTES:
            return fixed(number, FIXED_BYTES[form])
        if form == "addr":
            return fixed(number, unit.address_size)
        if form == "ref_addr":
            return fixed(number, unit.address_size if unit.version <= 2 else unit.offset_size)
        if form in ("strp", "line_strp", "sec_offset", "strp_sup", "GNU_ref_alt", "GNU_strp_alt"):
            return fixed(number, unit.offset_size)
        return uleb(number)

    @staticmethod
    def _block(form: str | int, value: bytes) -> bytes:
        sizes = {"block1": 1, "block2": 2, "block4": 4}
        if form in ("block", "exprloc"):
            return uleb(len(value)) + value
        return fixed(len(value), sizes[form]) + value if form in sizes else value

    def _number(self, unit: Unit, form: str | int, value: Any) -> int:
        if callable(value):
            return value()
        if isinstance(value, str):
            return self._string(unit, str(form), value)
        if isinstance(value, Die):
            local = form in ("ref1", "ref2", "ref4", "ref8", "ref_udata")
            return max(0, value.offset - unit.offset) if local else value.offset
        if isinstance(value, LineProgram):
            if not any(program is value for program, _ in self._lines):
                self._lines.append((value, unit))
                value.bytes(_UnitStrings(self, unit))  # its strings get their places
            return value.offset
        if isinstance(value, Ranges):
            number = unit.ranges.add(value)
            if form == "rnglistx":
                return number
            return value.offset - (unit.ranges.base if unit.skeleton and unit.version < 5 else 0)
        if form in ("addrx", "addrx1", "addrx2", "addrx3", "addrx4", "GNU_addr_index"):
            return unit.addresses.index(value)
        return value

    def _string(self, unit: Unit, form: str, text: str) -> int:
        if form == "line_strp":
            return self.line_str.offset(text)
        if form in ("strp_sup", "GNU_strp_alt"):
            assert self.alternate is not None
            return self.alternate.str.offset(text)
        offset = self.str.offset(text)
        return offset if form == "strp" else unit.strings.index(offset)


class _UnitStrings(LineStrings):
    def __init__(self, file: DwarfFile, unit: Unit) -> None:
        self._file, self._unit = file, unit

    def encoded(self, form: str, text: str) -> bytes:
        return self._file.encoded(self._unit, form, text)
