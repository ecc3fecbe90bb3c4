"""What a recording tells of the past of its rows: how they grew, on which threads, what they held near the limit."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

from .grouping import Group, Source, group_rows
from .records import Mark, RecordedRow
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
    """

    row: Row
    history: tuple[tuple[float, Optional[int]], ...]
    threads: tuple[Row, ...]
    marks: tuple[Optional[int], ...]

    @property
    def grown(self) -> Optional[int]:
        """Bytes gained from the first mark to the end; None when there is no mark, or it does not tell."""
        return self.row.est_bytes - self.marks[0] if self.marks and self.marks[0] is not None else None


def gather(row: Row, group: Group, source: Source, tracer: Tracer, moments_s: Sequence[float]) -> Evidence:
    """Return the evidence of a group of one recording's rows, at these moments before its end."""
    found = source.recording
    end_cs = found.header.end_cs
    history = tuple(
        (before, _total([live_at(part, end_cs - round(before * 100)) for part in group.recorded]))
        for before in moments_s
        if before * 100 <= end_cs
    )
    threads = [thread.row((source,), tracer) for thread in group_rows((source,), [group], "thread", tracer)]
    threads.sort(key=lambda thread: -thread.est_bytes)
    marks = tuple(_at_mark(group, source, mark) for mark in found.marks)
    return Evidence(row, history, tuple(threads), marks)


def live_at(row: RecordedRow, cs: int) -> Optional[int]:
    """Return the estimated live bytes of a row at a moment, None when its history does not reach back so far."""
    if cs < row.first_cs:
        return 0
    known = [value for when, value in row.history if when <= cs]
    return known[-1] if known else None


def _at_mark(group: Group, source: Source, mark: Mark) -> Optional[int]:
    mine = {index for _, index in group.members}
    found = [value for ref, value in mark.rows if source.recording.marked_index_of(ref) in mine]
    if found:
        return sum(found)
    is_whole = not mark.rows or mark.live_bytes <= sum(value for _, value in mark.rows)
    return 0 if is_whole or all(mark.cs < row.first_cs for row in group.recorded) else None


def _total(values: Sequence[Optional[int]]) -> Optional[int]:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
