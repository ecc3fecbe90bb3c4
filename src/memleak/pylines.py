"""Which line of the source an instruction of Python code belongs to, from the code object's line table.

Three forms: `co_lnotab` of CPython 3.9, `co_linetable` of 3.10 (PEP 626) and of 3.11 and later (PEP 657).
A table may hold anything: decoding takes time in proportion to its length, and what makes no sense
ends it. `tests/unit/test_pylines.py` compares each form with what that CPython itself says.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Optional

from . import layout

_LINE_MOST = (1 << 31) - 1
_OFFSET_MOST = layout.PYTHON_FRAME_OFFSET_MASK
_NO_LINE = -1
_UNIT_BYTES = 2  # of code, in PEP 657
_VARINT_CHUNKS_MOST = 6  # of 6 bits: a line has 31, its sign one


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
        self._starts = array("I")
        self._lines = array("i")
        decode = _FORMS.get(kind)
        if decode is None:
            return
        for start, line in decode(table, first_line, cut):
            if not 0 <= start <= _OFFSET_MOST:
                break
            known = line if line is not None and 0 <= line <= _LINE_MOST else _NO_LINE
            if self._starts and self._starts[-1] == start:
                self._lines[-1] = known
            elif not self._lines or self._lines[-1] != known:
                self._starts.append(start)
                self._lines.append(known)

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


# Each form yields (offset where a range of instructions begins, its line), offsets ascending; of two at
# one offset the later counts. A range ends where the next one begins, the last one never.
_Ranges = Iterator[tuple[int, Optional[int]]]


def _lnotab(table: bytes, first_line: int, cut: bool) -> _Ranges:
    """Pairs of bytes: instructions on (unsigned), then lines on (signed)."""
    offset, line = 0, first_line
    yield offset, line
    for at in range(0, len(table) - 1, 2):
        offset += table[at]
        line += _signed(table[at + 1])
        yield offset, line
    if cut:  # nothing says how far the last range goes
        yield offset, None


def _lines(table: bytes, first_line: int, _cut: bool) -> _Ranges:
    """Pairs of bytes: length of the range (unsigned), lines on (signed; -128: the range has no line)."""
    offset, line = 0, first_line
    for at in range(0, len(table) - 1, 2):
        delta = _signed(table[at + 1])
        if delta != -128:
            line += delta
        if table[at]:
            yield offset, None if delta == -128 else line
            offset += table[at]
    yield offset, None


def _locations(table: bytes, first_line: int, _cut: bool) -> _Ranges:
    """Entries: a byte with bit 7 set, with its form and the length of the range, then bytes without bit 7."""
    offset, line, at, size = 0, first_line, 0, len(table)
    while at < size:
        head = table[at]
        at += 1
        if not head & 0x80:
            break
        form = head >> 3 & 15
        if form in (13, 14):  # without columns, or at full length: the lines on come first
            delta = _signed_varint(table, at)
            if delta is None:
                break
            line += delta
        elif 10 <= form <= 12:
            line += form - 10
        yield offset, None if form == 15 else line
        offset += ((head & 7) + 1) * _UNIT_BYTES
        while at < size and not table[at] & 0x80:
            at += 1
    yield offset, None


_FORMS = {
    layout.LINE_TABLE_LNOTAB: _lnotab,
    layout.LINE_TABLE_LINES: _lines,
    layout.LINE_TABLE_LOCATIONS: _locations,
}


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _signed_varint(table: bytes, at: int) -> Optional[int]:
    """Return the number at *at*: chunks of 6 bits, the lowest first, bit 6 set on all but the last; bit 0 is the sign.

    None when it does not end within the table or is longer than a line can be.
    """
    value = 0
    for chunk, byte in enumerate(table[at : at + _VARINT_CHUNKS_MOST]):
        if byte & 0x80:
            return None
        value |= (byte & 0x3F) << 6 * chunk
        if not byte & 0x40:
            return -(value >> 1) if value & 1 else value >> 1
    return None
