"""What a bound on the number of glibc's arenas would save: what its heaps hold beyond what was ever in use at once.

A thread's arena keeps what its thread once needed. With few arenas the memory that one thread has freed serves the
next: each arena is as large as its threads ever needed together. That is at most what all threads needed at once, and
together they keep no less than that. In between it depends on who is busy with whom: threads are taken to be busy
independently of the arena they have, and an arena once has to serve more of them than its part, by `BUSIER_Z` standard
errors.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from . import layout
from .recording import Recording
from .records import RecordedRow

ARENAS = 2  # with the first one
BUSIER_Z = 1.5
PEAK_Z = 1.5
_LARGE = 128 << 10  # blocks of that size have mappings of their own
_SMALL_SHARE = 1 / 1000  # of all peaks: rows below it count with theirs
_NATIVE = tuple(layout.DOMAINS.index(name) for name in ("glibc_malloc", "operator_new", "pymem_raw"))
_PYTHON = tuple(layout.DOMAINS.index(name) for name in ("pymalloc_obj", "pymalloc_mem"))
_PYTHON_MOST = 512  # larger blocks are malloc's


class Gain(NamedTuple):
    """What `ARENAS` arenas would not have kept of what the heaps hold, in bytes.

    Attributes:
        expected: if threads of both are busy at random.
        least: if each of them once has to hold all that was in use at once.
        most: if they share it.
    """

    expected: int
    least: int
    most: int


def gain(recording: Recording, resident: int, arenas: int) -> Gain:
    """Return what would not have been kept of *resident* bytes in the heaps of so many arenas, at least two."""
    at_once = in_use_at_once(recording)
    each = resident / arenas
    busy = min(float(arenas), at_once / each) if each else 0.0
    share = 1 / ARENAS
    spread = BUSIER_Z * math.sqrt(busy * share * (1 - share) * (arenas - busy) / (arenas - 1))
    needed = ARENAS * min(at_once, at_once * share + spread * each)
    return Gain(*(round(max(0.0, resident - value)) for value in (needed, ARENAS * at_once, at_once)))


def in_use_at_once(recording: Recording) -> float:
    """Return the most bytes that blocks in heaps took at one time, as far as histories and peaks tell."""
    peaks = [(row, _taken(row, row.peak_bytes)) for row in recording.rows if _in_heaps(row)]
    least = _SMALL_SHARE * sum(peak for _, peak in peaks)
    rest = sum(peak for _, peak in peaks if peak < least)
    rows = [row for row, peak in peaks if peak >= least]
    return rest + _highest(rows)


def _in_heaps(row: RecordedRow) -> bool:
    if row.pool or not row.alloc_count:
        return False
    mean = row.alloc_bytes / row.alloc_count
    return mean < _LARGE and (row.domain in _NATIVE or (row.domain in _PYTHON and mean > _PYTHON_MOST))


def _taken(row: RecordedRow, value: float) -> float:
    """Return what glibc takes for blocks of so many bytes in all."""
    mean = row.alloc_bytes / row.alloc_count
    return value * max(32.0, mean + 16) / mean if mean else 0.0


def _peak(row: RecordedRow) -> float:
    """Return the most that a row held: its highest estimate, less what the highest is too high by chance."""
    live = row.live
    noise = live.variance_bytes / live.est_bytes if live.est_bytes else 0.0
    return row.peak_bytes - PEAK_Z * math.sqrt(noise * row.peak_bytes)


def _highest(rows: Sequence[RecordedRow]) -> float:
    """Return the greatest sum of what rows held; between two known moments each as much as it ever did there."""
    moments = sorted({at for row in rows for at, _ in row.history})
    totals = [0.0] * (len(moments) + 1)  # of the stretches that end at each moment, and of that behind the last
    for row in rows:
        highest = [0.0] * len(totals)
        before, begun = 0, 0
        for at, value in (*row.history, (None, 0)):
            end = len(moments) if at is None else bisect_right(moments, at) - 1
            for stretch in range(begun, end + 1):
                highest[stretch] = max(highest[stretch], before)
            if at is not None:
                highest[end] = max(highest[end], value)
            before, begun = value, end + 1
        peak_at = bisect_right(moments, row.peak_cs - 1)
        highest[peak_at] = max(highest[peak_at], _peak(row))
        highest[-1] = max(highest[-1], row.live.est_bytes)
        totals = [total + _taken(row, value) for total, value in zip(totals, highest)]
    return max(totals)
