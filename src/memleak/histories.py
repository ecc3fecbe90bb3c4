"""What a row or a gauge was at earlier moments, from the words that a recording keeps."""

from collections.abc import Iterator, Sequence
from typing import Any, Union, overload

from . import layout
from .header import Header
from .once import once


class History(Sequence[tuple[int, int]]):
    """What a row held at earlier moments, (cs, estimated live bytes), the oldest first; decoded when it is looked at.

    Equal to any sequence of the same points.
    """

    def __init__(self, raw: bytes, at: int, header: Header, present: tuple[int, int]) -> None:
        """Take the bytes of a recording, in which its slots begin at *at*, and what to say if they are empty."""
        self._raw = raw
        self._at = at
        self._header = header
        self._present = present

    @once
    def _points(self) -> tuple[tuple[int, int], ...]:
        return decode_history(self._raw, self._at, self._header) or (self._present,)

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[int, int], ...]: ...

    def __getitem__(self, index: Union[int, slice]) -> Any:
        """Return a point, of a slice several."""
        return self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._points)

    def __eq__(self, other: object) -> bool:
        return self._points == tuple(other) if isinstance(other, (History, tuple)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._points)

    def __repr__(self) -> str:
        return repr(self._points)


def decode_history(raw: bytes, at: int, header: Header) -> tuple[tuple[int, int], ...]:
    """Merge the levels of one row's history into (cs, live bytes) points in order of time.

    A word says what the value was when its period ended, so a period that is still running counts
    as ending now. Where levels overlap, the finer one is believed: the coarser ones are written when the
    next tick begins, so of the tick of the latest change they do not know yet.

    Args:
        raw: bytes that hold its words.
        at: where in these they begin.
        header: which says how many there are, and what they mean.

    Raises:
        IndexError: they do not lie in these bytes.
    """
    from ._columns import history  # here, as in arena.py, and so, for it is 20,000 times

    return history(
        raw,
        at,
        header.history_levels,
        header.history_slots,
        header.history_unit_cs,
        header.history_level_shift,
        header.end_cs,
    )


def gauge_value(word: int) -> int:
    """Return the value that 40 bits of a gauge's history mean."""
    bits = layout.GAUGE_MANTISSA_BITS
    exponent = word >> bits & (1 << layout.GAUGE_SIGN_BIT - bits) - 1
    magnitude = (word & (1 << bits) - 1) << min(exponent, 31)
    return -magnitude if word >> layout.GAUGE_SIGN_BIT & 1 else magnitude


def gauge_word(value: int) -> int:
    """Return the 40 bits of a gauge's history that are nearest to a value towards 0."""
    bits = layout.GAUGE_MANTISSA_BITS
    magnitude = abs(value)
    exponent = max(0, magnitude.bit_length() - bits)
    return int(value < 0) << layout.GAUGE_SIGN_BIT | exponent << bits | magnitude >> exponent
