"""Which function holds an address, by the ELF symbol tables alone, in Python.

For where `_dwarf` cannot be loaded or the file is big-endian; else see `nativesymbols.py`. Tables of a large program have
10^6 entries: they are decoded with struct into arrays, and a name is read only when its symbol was hit. (pyelftools' own
iterator takes 20 us an entry.)
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from .elf import ElfError, ElfImage, string_at
from .symboltables import MAX_TABLES, tables

MAX_SYMBOLS = 4_000_000  # per table
MAX_NAME_BYTES = 16 << 10

_STT_NOTYPE = 0
_CODE_TYPES = (_STT_NOTYPE, 2, 10)  # also STT_FUNC, STT_GNU_IFUNC
_STB_LOCAL = 0
_SHN_UNDEF = 0
_NO_LIMIT = 2**64 - 1

# Flags of one symbol.
_SIZED = 1
_GLOBAL = 2
_TYPED = 4
_OLD = 8  # a version kept for programs linked long ago

# Only a hostile table has more: functions within functions, names of one address.
_MAX_LOOK_BACK = 1024
_MAX_ALIASES = 256


class SymbolTable:
    """Functions by address: find() answers which one an address is in.

    Made of the tables of one or more images of the same build (the binary, its debug file, its
    .gnu_debugdata), whose addresses agree.
    """

    def __init__(self, images: Iterable[ElfImage]) -> None:
        self._strings: list[bytes] = []
        starts, ends = array("Q"), array("Q")
        numbers, names, flags = array("B"), array("I"), array("B")
        for image in images:
            for table in tables(image):
                if len(self._strings) == MAX_TABLES:
                    break
                try:
                    symbols, strings, versions = table.read()
                except ElfError:
                    continue
                for start, end, name, flag in _functions(table.image, symbols, versions):
                    starts.append(start)
                    ends.append(end)
                    names.append(name)
                    flags.append(flag)
                numbers.extend([len(self._strings)] * (len(starts) - len(numbers)))
                self._strings.append(strings)
        order = sorted(range(len(starts)), key=starts.__getitem__)
        self._starts = array("Q", (starts[i] for i in order))
        self._ends = array("Q", (ends[i] for i in order))
        self._tables = array("B", (numbers[i] for i in order))
        self._names = array("I", (names[i] for i in order))
        self._flags = array("B", (flags[i] for i in order))
        # The highest end of a sized symbol up to here: where a walk back for an enclosing
        # function may stop.
        self._highest = array("Q")
        highest = 0
        for end, flag in zip(self._ends, self._flags):
            if flag & _SIZED and end > highest:
                highest = end
            self._highest.append(highest)

    def __len__(self) -> int:
        return len(self._starts)

    def names_of(self, addresses: Iterable[int]) -> dict[int, list[str]]:
        """Return the `names` of each address."""
        return {address: self.names(address) for address in addresses}

    def find(self, address: int) -> str | None:
        """Return the best name of the function at *address*, or None. See `names`."""
        found = self.names(address)
        return found[0] if found else None

    def names(self, address: int) -> list[str]:
        """Return all names (mangled, without @version) of the function at *address*, best first.

        The function is the nearest before it whose size covers it; else the nearest symbol, if
        that has no size (hand-written assembly) and its section reaches so far. One that lies in a
        function of known size (a label, a second name) reaches no further than that function.

        Of several names: one that programs can link to now before one kept for old programs
        (free, not cfree), global before local, a function before a bare label, then the plainer
        (malloc, not __libc_malloc), the shorter (fopen, not fopen64), and by alphabet: the answer
        never depends on the order of the table.
        """
        index = last = bisect_right(self._starts, address) - 1
        floor = max(-1, last - _MAX_LOOK_BACK)
        while index > floor and self._highest[index] > address:
            if self._flags[index] & _SIZED and self._ends[index] > address:
                found = self._names_at(index, address, sized=True)
                if found:
                    return found
                index = bisect_left(self._starts, self._starts[index])  # none of them has a name
            index -= 1
        if last < 0 or self._starts[last] < self._highest[last] <= address:
            return []
        return self._names_at(last, address, sized=False)

    def _names_at(self, index: int, address: int, *, sized: bool) -> list[str]:
        """Return the names of the symbols that start where *index* does, and cover *address*.

        *index* is the last of them: symbols before it may start at the same address.
        """
        start = self._starts[index]
        found: list[tuple[bool, bool, bool, int, int, str]] = []
        floor = max(-1, index - _MAX_ALIASES)
        while index > floor and self._starts[index] == start:
            flag = self._flags[index]
            if bool(flag & _SIZED) == sized and address < self._ends[index]:
                name, version_mark = self._name(index)
                bare_label = not flag & _TYPED
                if name and not (bare_label and name.startswith(("$", ".L"))):
                    old = bool(flag & _OLD) or version_mark == "@"
                    is_mangled = name.startswith(("_Z", "_R"))
                    underscores = 0 if is_mangled else len(name) - len(name.lstrip("_"))
                    found.append((old, not flag & _GLOBAL, bare_label, underscores, len(name), name))
            index -= 1
        return [name for *_, name in sorted(set(found))]

    def _name(self, index: int) -> tuple[str, str]:
        raw = string_at(self._strings[self._tables[index]], self._names[index], MAX_NAME_BYTES)
        return split_version(raw.decode("utf-8", "backslashreplace"))


def split_version(name: str) -> tuple[str, str]:
    """Split "memcpy@@GLIBC_2.14" into the name and its mark: "@@" current, "@" old, "" none."""
    at = name.find("@", 1)
    if at < 0:
        return name, ""
    return name[:at], "@@" if name.startswith("@@", at) else "@"


def _functions(image: ElfImage, symbols: bytes, versions: bytes) -> Iterable[tuple[int, int, int, int]]:
    """Yield (start, end, offset of the name, flags) of the symbols that may be code."""
    order = "<" if image.little_endian else ">"
    narrow = image.bits == 32
    layout = struct.Struct(order + ("IIIBBH" if narrow else "IBBHQQ"))
    usable = min(len(symbols) // layout.size, MAX_SYMBOLS) * layout.size
    high_byte = 1 if image.little_endian else 0
    limits = [s.address + s.size if s.executable else 0 for s in image.sections]
    for number, fields in enumerate(layout.iter_unpack(memoryview(symbols)[:usable])):
        if narrow:
            name, value, size, info, _, section = fields
        else:
            name, info, _, section, value, size = fields
        kind = info & 15
        if section == _SHN_UNDEF or kind not in _CODE_TYPES:
            continue
        limit = limits[section] if section < len(limits) else 0
        flags = 0 if info >> 4 == _STB_LOCAL else _GLOBAL
        if kind != _STT_NOTYPE:
            flags |= _TYPED
        elif not limit:
            continue  # a bare label outside of a code section is data (_end, _edata)
        if versions[2 * number + high_byte : 2 * number + high_byte + 1] >= b"\x80":
            flags |= _OLD
        if size:
            yield value, min(value + size, _NO_LIMIT), name, flags | _SIZED
        elif limit:
            yield value, min(limit, _NO_LIMIT), name, flags
