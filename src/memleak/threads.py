"""What each thread was last seen at: the stack and the labels of its last sample, and how long ago that was."""

from typing import NamedTuple, Optional

from .grouping import Group, Judge, Source
from .rows import Row
from .stacks import Tracer


class ThreadSample(NamedTuple):
    """One thread of a recording. A thread that was never sampled is not known."""

    pid: int
    tid: int
    name: str  # empty when not known
    samples: int
    first_s: float  # seconds from the beginning of the recording to its first sample
    age_s: float  # since its last
    row: Optional[Row]  # the row of its last sample: stack and labels; None when this copy does not hold it


def last_samples(
    sources: tuple[Source, ...], tracer: Tracer, side: str, judge: Optional[Judge] = None
) -> list[ThreadSample]:
    """Return every thread, the one sampled last first.

    Args:
        sources: the recordings.
        tracer: names places.
        side: which frames `Row.trace` is: mixed, native or python.
        judge: says of rows what their growth means.
    """
    groups: dict[tuple[int, int], Group] = {}
    found: list[tuple[float, int, int, Optional[Group]]] = []
    for number, source in enumerate(sources):
        recording = source.recording
        for position, thread in enumerate(recording.threads):
            if not thread.tid:
                continue
            index = recording.marked_index_of(thread.last_row) if thread.last_row else None
            group = None
            if index is not None and 0 <= index < len(recording.rows):
                group = groups.get((number, index))
                if group is None:
                    group = groups[number, index] = Group((number, index), len(groups))
                    group.add((number, index), recording.rows[index])
            found.append((max(0, source.now_cs - thread.last_cs) / 100, number, position, group))
    tracer.prefetch(place for group in groups.values() for place in group.places(sources))
    rows = {identity: group.row(sources, tracer, side, judge) for identity, group in groups.items()}
    return [
        ThreadSample(
            pid=sources[number].recording.header.pid,
            tid=thread.tid,
            name=thread.name,
            samples=thread.samples,
            first_s=thread.first_cs / 100,
            age_s=age,
            row=None if group is None else rows[group.identity],
        )
        for age, number, position, group in sorted(found, key=lambda each: each[:3])
        for thread in (sources[number].recording.threads[position],)
    ]
