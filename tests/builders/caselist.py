"""The odd cases of debug information, each with the answers that it must get: what a case is, and the list of them.

A case is a function that returns a `Case`. An answer is its frames, innermost first: (function, line) in /src/f.c, or
(function, file, line, discriminator). `agree` are the tools that say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dwarfwriter import DwarfFile
from elfwriter import write_elf
from plaindwarf import FILE

BOTH = ("llvm", "gnu")


class Case(NamedTuple):
    """Debug information, and what must be said of addresses."""

    file: DwarfFile
    want: Mapping[int, Sequence[tuple]]
    agree: Sequence[str] = ()
    options: Mapping[str, Any] = {}  # of write_elf
    beside: Mapping[str, Callable[[], bytes]] = {}  # other files, once the program was laid out
    sections: Mapping[str, bytes] = {}  # further ones, or others in place of what the file has

    def elf(self) -> bytes:
        """Return the program."""
        return write_elf(sections={**self.file.sections(), **self.sections}, **self.options)

    def frames(self, address: int) -> list[tuple]:
        """Return what must be said of an address, with all four parts."""
        return [frame if len(frame) == 4 else (frame[0], FILE, frame[1], 0) for frame in self.want[address]]


CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    """Put a case into the list."""
    CASES[make.__name__] = make
    return make


PLAIN = [(0x1000, 10), (0x1010, 20), (0x1020, 30), (0x1100, 0)]  # lines of the code that most cases have
