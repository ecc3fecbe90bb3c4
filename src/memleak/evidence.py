"""What a recording tells of the past of its rows: how they grew, on which threads, what they held near the limit."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

from .grouping import Group, Source, group_rows
from .records import RecordedRow
from .rows import Row
from .stacks import Tracer


class Evidence(NamedTuple):
    """One stack of a recording, and what became of it.

    Attributes:
        row: as the answers have it.
        history: (seconds before the end, estimated live bytes then), the longest ago first; None where
            the recording does not reach back so far.
        threads: the rows of the threads that allocated what is live, the largest first.
        marks: for each of the recording's marks the estimated live bytes; None: not among the largest then.
        grown: bytes gained from the first mark to the end; None when there is no mark, or it does not tell.
    """

    row: Row
    history: tuple[tuple[float, Optional[int]], ...]
    threads: tuple[Row, ...]
    marks: tuple[Optional[int], ...]
    grown: Optional[int]


class Marks:
    """The marks of one recording, by row."""

    def __init__(self, source: Source) -> None:
        """Look up each row once."""
        self._marks = source.recording.marks
        self._bytes: list[dict[int, int]] = []
        for mark in self._marks:
            held: dict[int, int] = {}
            for ref, value in mark.rows:
                index = source.recording.marked_index_of(ref)
                if index is not None:
                    held[index] = held.get(index, 0) + value
            self._bytes.append(held)

    def of(self, group: Group) -> tuple[Optional[int], ...]:
        """Return what a group held at each mark; None: it was not among the largest, and may have held something."""
        return tuple(self._at(number, group) for number in range(len(self._marks)))

    def grown(self, group: Group) -> Optional[int]:
        """Return what a group has gained since the first mark; None when that is not known."""
        before = self._at(0, group) if self._marks else None
        return None if before is None else round(group.sums.est_bytes) - before

    def _at(self, number: int, group: Group) -> Optional[int]:
        held, mark = self._bytes[number], self._marks[number]
        found = [held[index] for _, index in group.members if index in held]
        if found:
            return sum(found)
        is_whole = mark.live_bytes <= sum(value for _, value in mark.rows)
        return 0 if is_whole or all(mark.cs < row.first_cs for row in group.recorded) else None


def gather(
    row: Row, group: Group, source: Source, tracer: Tracer, marks: Marks, moments_s: Sequence[float]
) -> Evidence:
    """Return the evidence of a group of one recording's rows, at these moments before its end."""
    end_cs = source.recording.header.end_cs
    history = tuple(
        (before, _total([live_at(part, end_cs - round(before * 100)) for part in group.recorded]))
        for before in moments_s
        if before * 100 <= end_cs
    )
    threads = [thread.row((source,), tracer) for thread in group_rows((source,), [group], "thread", tracer)]
    threads.sort(key=lambda thread: -thread.est_bytes)
    return Evidence(row, history, tuple(threads), marks.of(group), marks.grown(group))


def live_at(row: RecordedRow, cs: int) -> Optional[int]:
    """Return the estimated live bytes of a row at a moment, None when its history does not reach back so far."""
    if cs < row.first_cs:
        return 0
    known = [value for when, value in row.history if when <= cs]
    return known[-1] if known else None


def _total(values: Sequence[Optional[int]]) -> Optional[int]:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
