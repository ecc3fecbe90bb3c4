"""Which line of the source an instruction of Python code belongs to, from the code object's line table.

Three forms: `co_lnotab` of CPython 3.9, `co_linetable` of 3.10 (PEP 626) and of 3.11 and later (PEP 657).
A table may hold anything: decoding takes time in proportion to its length, and what makes no sense
ends it. `tests/unit/test_pylines.py` compares each form with what that CPython itself says.
"""

from array import array
from bisect import bisect_right
from typing import Optional

_NO_LINE = -1


class LineTable:
    """A line table, decoded once for many questions."""

    __slots__ = ("_lines", "_starts")

    def __init__(self, kind: int, table: bytes, first_line: int, *, cut: bool = False) -> None:
        """Decode *table*.

        Args:
            kind: its form, one of `layout.LINE_TABLE_*`; of any other, no line is known.
            table: its bytes.
            first_line: the code object's.
            cut: the table's end is missing.
        """
        from . import _columns  # as in arena.py

        starts, lines = _columns.lines(kind, table, first_line, cut)
        self._starts, self._lines = array("I", starts), array("i", lines)

    def line(self, byte_offset: int) -> Optional[int]:
        """Return the line of the instruction at *byte_offset*; None when it has none or none is known."""
        index = bisect_right(self._starts, byte_offset) - 1
        line = self._lines[index] if index >= 0 else _NO_LINE
        return None if line == _NO_LINE else line


def line_of(kind: int, table: bytes, first_line: int, byte_offset: int, *, cut: bool = False) -> Optional[int]:
    """Return the line of one instruction; None when it has none or none is known.

    Args:
        kind: form of the table, one of `layout.LINE_TABLE_*`.
        table: its bytes.
        first_line: the code object's.
        byte_offset: of the instruction that is executed, not of the next one.
        cut: the table's end is missing.
    """
    return LineTable(kind, table, first_line, cut=cut).line(byte_offset)
