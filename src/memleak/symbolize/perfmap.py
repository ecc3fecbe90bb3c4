"""perf-PID.map: what run-time compilers say of the code they made; a line each, START SIZE NAME, numbers in hexadecimal.

Node.js, the JVM's agents, CPython (`-X perf`) and others write it to /tmp for perf. Addresses are those in the process.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from .elf import ElfError, FileSource
from .lines import SourceFrame

MAX_FILE_BYTES = 512 << 20
MAX_ENTRIES = 8_000_000
MAX_NAME_CHARS = 16 << 10

_LINE = re.compile(rb"[ \t]*(?:0x)?([0-9a-fA-F]{1,16})[ \t]+(?:0x)?([0-9a-fA-F]{1,16})[ \t]+([^\n\r]+)")
_PART_BYTES = 1 << 20
_MAX_LOOK_BACK = 1024  # entries: only a hostile file has code within code so deep
_MAX_ADDRESS = 2**64 - 1


class PerfMap:
    """The functions of one file. Code is thrown away and its place used anew: of several entries the last one counts.

    Raises:
        ElfError: the file cannot be read, or has no entry.
    """

    def __init__(self, path: str) -> None:
        starts, ends, self._names = array("Q"), array("Q"), []
        for start, size, name in _entries(path):
            if not size or start + size > _MAX_ADDRESS:
                continue
            if len(starts) == MAX_ENTRIES:
                break
            starts.append(start)
            ends.append(start + size)
            self._names.append(name)
        if not starts:
            raise ElfError("no line of it is START SIZE NAME, as in a perf-PID.map")
        self._order = sorted(range(len(starts)), key=starts.__getitem__)
        self._starts = array("Q", (starts[number] for number in self._order))
        self._ends = ends
        self._highest = array("Q")  # end of what begins up to here: where a walk back may stop
        highest = 0
        for number in self._order:
            highest = max(highest, ends[number])
            self._highest.append(highest)

    def find(self, address: int) -> str | None:
        """Return the name of the code at *address*, or None."""
        index = last = bisect_right(self._starts, address) - 1
        best = -1
        while index > max(-1, last - _MAX_LOOK_BACK) and self._highest[index] > address:
            number = self._order[index]
            if self._ends[number] > address:
                best = max(best, number)
            index -= 1
        return self._names[best].decode("utf-8", "backslashreplace")[:MAX_NAME_CHARS] if best >= 0 else None

    def start_of(self, name: str) -> int | None:
        """Return where the last entry of that name begins; None if there is none."""
        wanted = name.encode("utf-8", "surrogateescape")
        for index in range(len(self._names) - 1, -1, -1):
            if self._names[index] == wanted:
                return self._starts[self._order.index(index)]
        return None

    def names_of(self, addresses: Iterable[int]) -> dict[int, list[str]]:
        """See `SymbolTable.names_of`."""
        found = {address: self.find(address) for address in addresses}
        return {address: [] if name is None else [name] for address, name in found.items()}


class PerfMapLines:
    """One file as `BinaryLines` is a binary: names alone.

    Raises:
        ElfError: see `PerfMap`.
    """

    bits = 64
    problem = None

    def __init__(self, path: str) -> None:
        self._map = PerfMap(path)

    def close(self) -> None:
        """Nothing to close."""

    def has_section(self, name: str) -> bool:
        """There are none."""
        return False

    def address_of(self, symbol: str) -> int | None:
        """Return where the last code of that name begins; None if there is none."""
        return self._map.start_of(symbol)

    def chains(
        self, addresses: Sequence[int], section: str | None = None, *, demangle: bool = False
    ) -> list[list[SourceFrame]]:
        """Return a frame for each address that has a name. Names are readable as they are."""
        names = self._map.names_of(addresses)
        return [[SourceFrame(name, None, None) for name in names[address]] for address in addresses]


def _entries(path: str) -> Iterator[tuple[int, int, bytes]]:
    source = FileSource(path)
    try:
        pending = b""
        for offset in range(0, min(source.size, MAX_FILE_BYTES), _PART_BYTES):
            *lines, pending = (pending + source.pread(_PART_BYTES, offset)).split(b"\n")
            if len(pending) > _PART_BYTES:
                raise ElfError("a line of it has no end")
            yield from _parsed(lines)
        yield from _parsed([pending])
    finally:
        source.close()


def _parsed(lines: Iterable[bytes]) -> Iterator[tuple[int, int, bytes]]:
    for line in lines:
        found = _LINE.match(line)
        if found is not None:
            yield int(found[1], 16), int(found[2], 16), found[3].rstrip()
