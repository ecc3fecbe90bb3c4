"""What a unit refers to by number: its addresses, its strings, its lists of ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dwarfforms import fixed, length_bytes, uleb, with_length

# ("offset_pair", low, high), ("base_address", x), ("base_addressx", x), ("startx_endx", low, high),
# ("startx_length", low, length), ("start_end", low, high), ("start_length", low, length); before DWARF 5
# ("pair", low, high) and ("base", x). The addresses of the x kinds are put into the unit's table.
RangeEntry = tuple
_KINDS = {
    "base_addressx": 1, "startx_endx": 2, "startx_length": 3, "offset_pair": 4, "base_address": 5, "start_end": 6,
    "start_length": 7,
}  # fmt: skip


@dataclass(eq=False)
class Ranges:
    """A list of ranges, for an attribute whose form is sec_offset, data4, data8 or rnglistx."""

    entries: Sequence[RangeEntry]
    offset: int = 0  # in its section, once it was laid out
    ends: bool = True  # False: without the end marker


@dataclass
class AddressTable:
    """A unit's part of .debug_addr."""

    version: int
    offset_size: int
    address_size: int
    entries: list[int] = field(default_factory=list)
    base: int = 0

    def index(self, address: int) -> int:
        """Return the number of an address, which it is given if it has none."""
        if address not in self.entries:
            self.entries.append(address)
        return self.entries.index(address)

    def bytes(self, at: int) -> bytes:
        """Return it as it stands at the offset *at*."""
        body = b"".join(fixed(entry, self.address_size) for entry in self.entries)
        if self.version < 5:
            self.base = at
            return body
        self.base = at + length_bytes(self.offset_size) + 4
        return with_length(fixed(5, 2) + bytes([self.address_size, 0]) + body, self.offset_size)


@dataclass
class StringOffsets:
    """A unit's part of .debug_str_offsets."""

    version: int
    offset_size: int
    entries: list[int] = field(default_factory=list)
    base: int = 0

    def index(self, offset: int) -> int:
        """Return the number of a string, which it is given if it has none."""
        if offset not in self.entries:
            self.entries.append(offset)
        return self.entries.index(offset)

    def bytes(self, at: int) -> bytes:
        """Return it as it stands at the offset *at*."""
        body = b"".join(fixed(entry, self.offset_size) for entry in self.entries)
        if self.version < 5:
            self.base = at
            return body
        self.base = at + length_bytes(self.offset_size) + 4
        return with_length(fixed(5, 2) + bytes(2) + body, self.offset_size)


@dataclass
class RangeTable:
    """A unit's part of .debug_ranges or of .debug_rnglists."""

    version: int
    offset_size: int
    address_size: int
    addresses: AddressTable
    lists: list[Ranges] = field(default_factory=list)
    base: int = 0

    def add(self, ranges: Ranges) -> int:
        """Return the number of a list."""
        if not any(one is ranges for one in self.lists):
            self.lists.append(ranges)
            self._of(ranges)  # its addresses get their numbers
        return next(number for number, one in enumerate(self.lists) if one is ranges)

    def bytes(self, at: int) -> bytes:
        """Return it as it stands at the offset *at*; the offsets of its lists are known then."""
        bodies = [self._of(ranges) for ranges in self.lists]
        if self.version < 5:
            self.base = at
            self._place(bodies, at)
            return b"".join(bodies)
        self.base = at + length_bytes(self.offset_size) + 8
        table_bytes = len(bodies) * self.offset_size
        self._place(bodies, self.base + table_bytes)
        table = b"".join(fixed(ranges.offset - self.base, self.offset_size) for ranges in self.lists)
        head = fixed(5, 2) + bytes([self.address_size, 0]) + fixed(len(bodies), 4)
        return with_length(head + table + b"".join(bodies), self.offset_size)

    def _place(self, bodies: Sequence[bytes], at: int) -> None:
        for ranges, body in zip(self.lists, bodies):
            ranges.offset = at
            at += len(body)

    def _of(self, ranges: Ranges) -> bytes:
        entry = self._old_entry if self.version < 5 else self._entry
        end = bytes(2 * self.address_size) if self.version < 5 else b"\0"
        return b"".join(entry(*words) for words in ranges.entries) + (end if ranges.ends else b"")

    def _old_entry(self, kind: str, first: int, second: int = 0) -> bytes:
        if kind == "base":
            first, second = -1, first
        return fixed(first, self.address_size) + fixed(second, self.address_size)

    def _entry(self, kind: str, first: int, second: int = 0) -> bytes:
        number, address = self.addresses.index, self.address_size
        values = {
            "base_addressx": lambda: uleb(number(first)),
            "startx_endx": lambda: uleb(number(first)) + uleb(number(second)),
            "startx_length": lambda: uleb(number(first)) + uleb(second),
            "offset_pair": lambda: uleb(first) + uleb(second),
            "base_address": lambda: fixed(first, address),
            "start_end": lambda: fixed(first, address) + fixed(second, address),
            "start_length": lambda: fixed(first, address) + uleb(second),
        }
        return bytes([_KINDS[kind]]) + values[kind]()


def arange_set(
    unit_offset: int, ranges: Sequence[tuple[int, int]], offset_size: int, address_size: int, *, ends: bool = True
) -> bytes:
    """Return a set of .debug_aranges: (start, length) of a unit."""
    body = fixed(2, 2) + fixed(unit_offset, offset_size) + bytes([address_size, 0])
    passed = length_bytes(offset_size) + len(body)
    body += bytes(-passed % (2 * address_size))
    for start, length in ranges:
        body += fixed(start, address_size) + fixed(length, address_size)
    return with_length(body + (bytes(2 * address_size) if ends else b""), offset_size)
