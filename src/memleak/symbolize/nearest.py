"""The symbol before an address, and the file that symbol came from, by the rule of the GNU tools.

Not the rule of `SymbolTable`: here a symbol reaches to the next one whatever size it has. That is a
guess where local symbols were stripped, but it is what addr2line prints.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from .elf import ElfError, ElfImage, Section, string_at

MAX_NAME_BYTES = 16 << 10
MAX_SYMBOLS = 8_000_000

_STB_LOCAL = 0
_STT_NOTYPE, _STT_SECTION, _STT_FILE = 0, 3, 4
_NOT_CODE = frozenset((1, _STT_SECTION, _STT_FILE, 5, 6, 8, 9))  # also objects, common and thread-local data
_STV_HIDDEN = 2

_Fields = tuple[int, int, int, int, int, int]  # name, info, other, section, value, size


class Symbol(NamedTuple):
    """A symbol as the file spells it.

    Attributes:
        name: with its @version, if the table has it.
        start: its value.
        end: where it ends; one byte further if the table does not say.
        file: the name of the source file it came from, or None. See `NearestSymbols.nearest`.
    """

    name: str
    start: int
    end: int
    file: Optional[str]


class NearestSymbols:
    """One symbol table of an image: .symtab, or .dynsym if that is missing or empty."""

    def __init__(self, image: ElfImage) -> None:
        self._sections = image.sections
        self._narrow = image.bits == 32
        order = "<" if image.little_endian else ">"
        self._layout = struct.Struct(order + ("IIIBBH" if self._narrow else "IBBHQQ"))
        self._symbols, self._strings = self._table(image)
        self._by_section: dict[int, tuple[list[int], list[tuple[int, int, int]]]] = {}

    def _table(self, image: ElfImage) -> tuple[bytes, bytes]:
        for name in (".symtab", ".dynsym"):
            section = image.section(name)
            if section is None or section.size <= self._layout.size or not 0 < section.link < len(image.sections):
                continue
            try:
                return image.data(section), image.data(image.sections[section.link])
            except ElfError:
                continue
        return b"", b""

    def nearest(self, section: int, address: int) -> Symbol | None:
        """Return the symbol of *section* (its number) that starts last at or before *address*.

        Of several that start there, the largest; of equals, the first in the table. Data and marks of
        the annobin plug-in (local, hidden, without type and size) do not count. Its file is named
        by the last STT_FILE before it in the table if it is local. All of those come before all global
        symbols, so for a global one it is known only if no STT_FILE follows another symbol.
        """
        known = self._by_section.get(section)
        if known is None:
            best = self._best_of(section)
            starts = sorted(best)
            known = self._by_section[section] = starts, [best[start] for start in starts]
        starts, symbols = known
        index = bisect_right(starts, address) - 1
        if index < 0:
            return None
        size, name, file = symbols[index]
        return Symbol(self._text(name), starts[index], starts[index] + size, self._text(file) if file >= 0 else None)

    def _best_of(self, section: int) -> dict[int, tuple[int, int, int]]:
        """Return start -> (size, name, file) for the symbols of one section; file -1 if it is not known."""
        best: dict[int, tuple[int, int, int]] = {}
        lowest = self._sections[section].address
        file = -1
        any_symbol = any_file_after = False
        for name, info, other, index, value, size in self._each():
            kind = info & 15
            if kind == _STT_FILE:
                file = name
                any_file_after |= any_symbol
                continue
            any_symbol = True
            if index != section or kind in _NOT_CODE or value < lowest:
                continue
            local = info >> 4 == _STB_LOCAL
            if not size and local and kind == _STT_NOTYPE and other & 3 == _STV_HIDDEN:
                continue
            known = best.get(value)
            if known is None or known[0] < (size or 1):
                best[value] = size or 1, name, file if local or not any_file_after else -1
        return best

    def starts_at(self, section: int, address: int) -> bool:
        """Tell whether any symbol of *section* starts at *address*, data included."""
        return any(
            index == section and value == address and info & 15 != _STT_SECTION
            for _, info, _, index, value, _ in self._each()
        )

    def value_of(self, name: str) -> int | None:
        """Return the value of the first symbol of that name; a section is a symbol of its name."""
        wanted = name.encode("utf-8", "surrogateescape") + b"\0"
        offsets = set(_occurrences(self._strings, wanted))
        for at, info, _, section, value, _ in self._each():
            if at in offsets or (not at and info & 15 == _STT_SECTION and self._section_name(section) == name):
                return value
        return None

    def values(self) -> Iterator[tuple[str, int]]:
        """Yield (name, value) of each symbol, in the order of the table."""
        for at, _, _, _, value, _ in self._each():
            yield self._text(at), value

    def _each(self) -> Iterator[_Fields]:
        """Yield the fields of each symbol but the first, which is none."""
        entry = self._layout.size
        usable = min(len(self._symbols) // entry, MAX_SYMBOLS) * entry
        table = memoryview(self._symbols)[entry:usable]
        if not self._narrow:
            yield from self._layout.iter_unpack(table)
            return
        for name, value, size, info, other, section in self._layout.iter_unpack(table):
            yield name, info, other, section, value, size

    def _section_name(self, index: int) -> str:
        return self._sections[index].name if index < len(self._sections) else ""

    def _text(self, offset: int) -> str:
        return string_at(self._strings, offset, MAX_NAME_BYTES).decode("utf-8", "surrogateescape")


def _occurrences(text: bytes, wanted: bytes) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)


def section_number(sections: Sequence[Section], name: str) -> int | None:
    """Return the number of the first section of that name, or None."""
    return next((number for number, section in enumerate(sections) if number and section.name == name), None)
