"""The symbol before an address, and the file that symbol came from, by the rule of the GNU tools.

Not the rule of `SymbolTable`: here a symbol reaches to the next one whatever size it has. That is a
guess where local symbols were stripped, but it is what addr2line prints.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import compress
from typing import NamedTuple, Optional

from .elf import MAX_SECTION_BYTES, ElfImage, Section
from .native import reader
from .nativesymbols import table_in_c

MAX_NAME_BYTES = 16 << 10
MAX_SYMBOLS = 8_000_000
MAX_STEPS = 100_000  # back from an address

_STB_LOCAL = 0
_STT_NOTYPE, _STT_SECTION, _STT_FILE = 0, 3, 4
_NOT_CODE = frozenset((1, _STT_SECTION, _STT_FILE, 5, 6, 8, 9))  # also objects, common and thread-local data
_STV_HIDDEN = 2

# By st_info: 1 for what may be code, and for files.
_MAY_BE_CODE = bytes(info & 15 not in _NOT_CODE for info in range(256))
_IS_FILE = bytes(info & 15 == _STT_FILE for info in range(256))


class Symbol(NamedTuple):
    """A symbol as the file spells it.

    Attributes:
        name: with its @version, if the table has it.
        start: its value.
        end: where it ends; one byte further if the table does not say.
        file: the name of the source file it came from, which may be empty, or None. See `NearestSymbols.nearest`.
    """

    name: str
    start: int
    end: int
    file: Optional[str]


class _Fields(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


class NearestSymbols:
    """One symbol table of an image: .symtab, or .dynsym if that is missing or empty."""

    def __init__(self, image: ElfImage) -> None:
        """Take *image*, which must stay open."""
        self._image = image
        self._sections = image.sections
        self._narrow = image.bits == 32
        self._little_endian = image.little_endian
        self._layout = struct.Struct(("<" if image.little_endian else ">") + ("IIIBBH" if self._narrow else "IBBHQQ"))
        self._table = self._find_table()
        self._known: dict[tuple[int, int], Symbol | None] = {}
        self._starts: list[int] | None = None
        self._order: list[int] = []

    def _find_table(self) -> tuple[Section, Section] | None:
        """Return the symbols and their names."""
        image = self._image
        for name in (".symtab", ".dynsym"):
            section = image.section(name)
            if section is None or section.size <= self._layout.size or not 0 < section.link < len(image.sections):
                continue
            strings = image.sections[section.link]
            if max(section.size, strings.size) <= MAX_SECTION_BYTES:
                return section, strings
        return None

    # The whole tables are needed only where `prepare` could not answer.

    @cached_property
    def _symbols(self) -> memoryview:
        data = b"" if self._table is None else self._image.data(self._table[0])
        usable = min(len(data) // self._layout.size, MAX_SYMBOLS) * self._layout.size
        return memoryview(data)[self._layout.size : usable]  # the first symbol of a table is none

    @cached_property
    def _strings(self) -> bytes:
        return b"" if self._table is None else self._image.data(self._table[1])

    @cached_property
    def _infos(self) -> bytes:
        return bytes(self._symbols[12 if self._narrow else 4 :: self._layout.size])

    @cached_property
    def _is_file(self) -> bytes:
        return self._infos.translate(_IS_FILE)

    @cached_property
    def _first_file_after(self) -> int:
        return self._is_file.find(1, max(0, self._is_file.find(0)))

    def prepare(self, section: int, addresses: Iterable[int]) -> None:
        """Find the symbols of many addresses of *section* (its number) at once, in C; `nearest` then knows them."""
        if self._table is None or not self._little_endian:
            return
        try:
            ffi, lib = reader()
        except ImportError:
            return  # the package was not built for this Python
        wanted = sorted(set(addresses))
        with table_in_c(ffi, self._image, self._table[0]) as table:
            found = ffi.new("struct mlsym_nearest[]", len(wanted))
            lowest = self._sections[section].address
            if lib.mlsym_find_nearest(table, self._narrow, section, lowest, wanted, len(wanted), found) != 0:
                return
        for address, one in zip(wanted, ffi.unpack(found, len(wanted))):
            symbol = None
            if one.number:
                file = self._text(one.file) if one.has_file else None
                symbol = Symbol(self._text(one.name), one.start, one.start + one.size, file)
            self._known[section, address] = symbol

    def nearest(self, section: int, address: int) -> Symbol | None:
        """Return the symbol of *section* (its number) that starts last at or before *address*.

        Of several that start there, the largest; of equals, the first in the table. Data and marks of
        the annobin plug-in (local, hidden, without type and size) do not count.

        Its file is named by the last STT_FILE before it in the table if it is local. All local symbols
        come before all global ones, so for a global one it is known only if no STT_FILE follows
        another symbol.
        """
        if (section, address) in self._known:
            return self._known[section, address]
        starts, order = self._by_address()
        at = bisect_right(starts, address)
        lowest = self._sections[section].address
        best: tuple[int, int] | None = None  # size, number
        start = -1
        for index in range(at - 1, max(-1, at - 1 - MAX_STEPS), -1):
            number, value = order[index], starts[index]
            if value < lowest or (best is not None and value != start):
                break
            one = self._fields(number)
            if one.section != section or _is_mark(one):
                continue
            start = value
            if best is None or (one.size or 1) >= best[0]:
                best = one.size or 1, number
        if best is None:
            return None
        size, number = best
        return Symbol(self._text(self._fields(number).name), start, start + size, self._file_of(number))

    def _file_of(self, number: int) -> str | None:
        file = self._is_file.rfind(1, 0, number)
        local = self._fields(number).info >> 4 == _STB_LOCAL
        if file < 0 or not (local or self._first_file_after < 0 or number < self._first_file_after):
            return None
        return self._text(self._fields(file).name)

    def _by_address(self) -> tuple[list[int], list[int]]:
        """Return the values of what may be code, ascending, and the numbers of these symbols."""
        if self._starts is None:
            # Columns of the table are taken as a whole: a loop over 10^6 symbols takes seconds.
            columns = array("I" if self._narrow else "Q", bytes(self._symbols))
            if self._little_endian != (sys.byteorder == "little"):
                columns.byteswap()
            values = columns[1::4] if self._narrow else columns[1::3]
            code = self._infos.translate(_MAY_BE_CODE)
            self._order = sorted(compress(range(len(values)), code), key=values.__getitem__)
            self._starts = list(map(values.__getitem__, self._order))
        return self._starts, self._order

    def _fields(self, number: int) -> _Fields:
        fields = self._layout.unpack_from(self._symbols, number * self._layout.size)
        if self._narrow:
            name, value, size, info, other, section = fields
            return _Fields(name, info, other, section, value, size)
        return _Fields(*fields)

    def value_of(self, name: str) -> int | None:
        """Return the value of the first symbol of that name; a section is a symbol of its name."""
        wanted = os.fsencode(name) + b"\0"
        offsets = set(_occurrences(self._strings, wanted))
        for one in self._each():
            if one.name in offsets or (
                not one.name and one.info & 15 == _STT_SECTION and self._section_name(one.section) == name
            ):
                return one.value
        return None

    def values(self) -> Iterator[tuple[str, int]]:
        """Yield (name, value) of each symbol, in the order of the table."""
        for one in self._each():
            yield self._text(one.name), one.value

    def _each(self) -> Iterator[_Fields]:
        return map(self._fields, range(len(self._symbols) // self._layout.size))

    def _section_name(self, index: int) -> str:
        return self._sections[index].name if index < len(self._sections) else ""

    def _text(self, offset: int) -> str:
        if self._table is None:
            return ""
        for limit in (256, MAX_NAME_BYTES):  # most names are short
            data = self._image.part(self._table[1], offset, limit)
            if b"\0" in data or len(data) < limit:
                break
        return os.fsdecode(data.split(b"\0", 1)[0])


class StickySymbols(NearestSymbols):
    """Looks no further while an address is in the symbol found last, as binutils: the order of questions matters."""

    def __init__(self, image: ElfImage) -> None:
        """See `NearestSymbols`."""
        super().__init__(image)
        self._last: tuple[int, Symbol] | None = None

    def nearest(self, section: int, address: int) -> Symbol | None:
        """Return the last answer if it is of *section* and covers *address*, else as `NearestSymbols`."""
        if self._last is None or self._last[0] != section or not self._last[1].start <= address < self._last[1].end:
            found = super().nearest(section, address)
            self._last = None if found is None else (section, found)
        return None if self._last is None else self._last[1]


def _is_mark(one: _Fields) -> bool:
    untyped_local = one.info >> 4 == _STB_LOCAL and one.info & 15 == _STT_NOTYPE
    return untyped_local and not one.size and one.other & 3 == _STV_HIDDEN


def _occurrences(text: bytes, wanted: bytes) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)


def section_number(sections: Sequence[Section], name: str) -> int | None:
    """Return the number of the first section of that name, or None."""
    return next((number for number, section in enumerate(sections) if number and section.name == name), None)
