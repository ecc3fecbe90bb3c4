"""What some loops of memleak._columns do, in Python: their tests hold them to this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memleak import layout

_LINE_MOST = (1 << 31) - 1
_OFFSET_MOST = layout.PYTHON_FRAME_OFFSET_MASK
_NO_LINE = -1
_UNIT_BYTES = 2  # of code, in PEP 657
_VARINT_CHUNKS_MOST = 6  # of 6 bits: a line has 31, its sign one


def lines(kind: int, table: bytes, first_line: int, cut: bool) -> tuple[list[int], list[int]]:
    """Return where ranges of instructions begin, and their lines; -1 where there is none."""
    starts: list[int] = []
    found: list[int] = []
    for start, line in _FORMS[kind](table, first_line, cut) if kind in _FORMS else ():
        if not 0 <= start <= _OFFSET_MOST:
            break
        known = line if line is not None and 0 <= line <= _LINE_MOST else _NO_LINE
        if starts and starts[-1] == start:
            found[-1] = known
        elif not found or found[-1] != known:
            starts.append(start)
            found.append(known)
    return starts, found


# Each form yields (offset where a range of instructions begins, its line), offsets ascending; of two at
# one offset the later counts. A range ends where the next one begins, the last one never.
_Ranges = Iterator["tuple[int, int | None]"]


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


def _signed_varint(table: bytes, at: int) -> int | None:
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


def history(words: Sequence[int], header) -> tuple[tuple[int, int], ...]:
    """Merge the levels of one row's history into (cs, live bytes) points in order of time.

    A word says what the value was when its period ended, so a period that is still running counts
    as ending now. Where levels overlap, the finer one is believed: the coarser ones are written when the
    next tick begins, so of the tick of the latest change they do not know yet.
    """
    unit, shift, slots = header.history_unit_cs, header.history_level_shift, header.history_slots
    end_cs = header.end_cs
    now_tick = 1 + end_cs // unit  # ticks count from 1
    modulus = layout.HISTORY_TAG_MASK
    value_mask = (1 << layout.HISTORY_VALUE_BITS) - 1
    found: list[tuple[int, int, int]] = []  # level, period, value
    bits = layout.HISTORY_VALUE_BITS
    written = [(index, word) for index, word in enumerate(words[: header.history_levels * slots]) if word >> bits]
    for index, word in written:  # most slots are empty
        tag = word >> bits
        if tag > modulus:
            continue
        level, slot = divmod(index, slots)
        # The latest period, up to now, that has this tag.
        now_period = now_tick >> level * shift
        period = now_period - (now_period - (tag - 1)) % modulus
        if period >= 0 and period % slots == slot:
            found.append((level, period, word & value_mask))
    latest = max((period for level, period, _ in found if level == 0), default=-1)
    points: dict[int, int] = {}
    for level, period, value in reversed(found):  # the finest level is written last
        if level == 0 or period != latest >> level * shift:
            ends_cs = (((period + 1) << level * shift) - 1) * unit
            points[min(ends_cs, end_cs)] = value
    return tuple(sorted(points.items()))


def squares(owners: Sequence[int], count: int, sizes: Sequence[int], weights: Sequence[int]) -> list[int]:
    """Return for each row the sum of the squares of what its samples stand for."""
    sums = [0] * count
    for owner, size, weight in zip(owners, sizes, weights):
        value = size * weight
        sums[owner] += value * value
    return sums
