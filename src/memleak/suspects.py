"""Judge the stacks of recordings: which of them leak, how fast, and when that meets the limit."""

from collections.abc import Iterable
from typing import NamedTuple, Optional

from . import layout
from .grouping import Group, Source
from .records import RecordedRow
from .rows import Row
from .verdict import (
    LEAK, LEAST_EVENTS, SATURATING, SHORTEST_FULL_S, SHORTEST_PRESSED_S, SHORTEST_S, VERDICTS, Forecast, Series,
    Verdict, few, forecast, judge,
)  # fmt: skip

_BEGINNING_S = 8.0  # of a row: its history begins when its first tick has ended
_ORDER = {LEAK: 0, SATURATING: 1}


class Judged(NamedTuple):
    """Every stack of a snapshot with its verdict; those that grow first, the fastest of them first.

    Attributes:
        stacks: (group, verdict) pairs.
        whole: of all stacks together.
        forecast: None when nothing bounds the memory that is known, or nothing grows, or there are several recordings.
        left_out: recordings of processes that ended while others of the snapshot run on: what they held is gone.
    """

    stacks: list[tuple[Group, Verdict]]
    whole: Verdict
    forecast: Optional[Forecast]
    left_out: int

    @property
    def counts(self) -> dict[str, int]:
        """How many stacks got each verdict, those that got none left out."""
        found: dict[str, int] = {}
        for verdict in VERDICTS:
            number = sum(one.verdict == verdict for _, one in self.stacks)
            if number:
                found[verdict] = number
        return found

    @property
    def leaks(self) -> int:
        """How many stacks leak."""
        return self.counts.get(LEAK, 0)


class Found(NamedTuple):
    """One stack with its verdict."""

    row: Row
    verdict: Verdict


def judge_stacks(sources: tuple[Source, ...], groups: Iterable[Group]) -> Judged:
    """Judge *groups* over all recordings, each on the clock of its own end."""
    chosen = chosen_sources(sources)
    found = verdicts(sources, groups)
    # What pools give out lies in memory that somebody else was counted for.
    everything = [
        (number, index)
        for number in sorted(chosen)
        for index, row in enumerate(sources[number].recording.rows)
        if counts(row)
    ]
    rows = [sources[number].recording.rows[index] for number, index in everything]
    series = series_of(sources, chosen, everything, rows) if rows else Series((), (), 0.0, 0.0)
    whole = judge([series], shortest_s=least_age_s(sources, chosen))[0]
    found.sort(key=lambda pair: (_place(pair[1]), -_speed(pair[1]), -pair[0].sums.est_bytes, pair[0].order))
    return Judged(found, whole, _forecast(sources, found), len(sources) - len(chosen))


def verdicts(sources: tuple[Source, ...], groups: Iterable[Group]) -> list[tuple[Group, Verdict]]:
    """Return those of *groups* that hold something in the recordings that are judged, each with its verdict."""
    chosen = chosen_sources(sources)
    held = [group for group in groups if group.sums.samples and any(number in chosen for number, _ in group.members)]
    # Of most stacks there are so few samples that nothing has to be known of their past.
    many = [group for group in held if group.sums.samples >= LEAST_EVENTS]
    series = [series_of(sources, chosen, group.members, group.recorded) for group in many]
    judged = iter(judge(series, shortest_s=least_age_s(sources, chosen)))
    return [(group, next(judged) if group.sums.samples >= LEAST_EVENTS else _few(sources, chosen, group)) for group in held]


def _few(sources: tuple[Source, ...], chosen: set[int], group: Group) -> Verdict:
    rows = [(number, row) for (number, _), row in zip(group.members, group.recorded) if number in chosen]
    samples = sum(row.live.samples for _, row in rows)
    taken = sum(sources[number].recording.taken(row) for number, row in rows)
    return few(samples, max(samples, taken))


def chosen_sources(sources: tuple[Source, ...]) -> set[int]:
    """Return the numbers of the recordings that are judged: of those of ended processes none while others run."""
    running = [number for number, source in enumerate(sources) if source.alive]
    return set(running or range(len(sources)))


def least_age_s(sources: tuple[Source, ...], chosen: set[int]) -> float:
    """Return how long a stack of these recordings must have been watched to be judged."""
    full = all(sources[number].recording.header.initial.mode == "full" for number in chosen)
    if full:
        return SHORTEST_FULL_S
    found = [sources[number] for number in chosen]
    return SHORTEST_PRESSED_S if not any(source.alive for source in found) or _no_time(found) else SHORTEST_S


def _no_time(sources: list[Source]) -> bool:
    """Whether the limit will be met before there are verdicts, if more is held at the pace of the life so far."""
    left = [
        header.limit_bytes - header.limit_used_bytes
        for header in (source.recording.header for source in sources)
        if header.limit_bytes and header.limit_seen_cs
    ]
    pace = sum(source.recording.total_est_bytes / max(1.0, source.now_cs / 100) for source in sources)
    age = max((source.now_cs / 100 for source in sources), default=0.0)
    return bool(left) and min(left) < pace * (SHORTEST_S - age)


def counts(row: RecordedRow) -> bool:
    """Whether a row is in totals."""
    return row.domain <= layout.POOL_DOMAIN


def _place(verdict: Verdict) -> int:
    return _ORDER.get(verdict.verdict, len(_ORDER) if verdict.grows else len(_ORDER) + 1)


def _speed(verdict: Verdict) -> float:
    return verdict.rate.value if verdict.rate is not None else 0.0


def _forecast(sources: tuple[Source, ...], found: list[tuple[Group, Verdict]]) -> Optional[Forecast]:
    if len(sources) != 1:
        return None
    header = sources[0].recording.header
    growing = [
        (verdict, group.sums.est_bytes) for group, verdict in found if verdict.grows and counts(group.recorded[0])
    ]
    if not growing or not header.limit_bytes or not header.limit_seen_cs:
        return None
    return forecast(growing, header.limit_bytes, header.limit_used_bytes)


# -- one stack over time -----------------------------------------------------------------------------


def series_of(
    sources: tuple[Source, ...], chosen: set[int], members: list[tuple[int, int]], rows: list[RecordedRow]
) -> Series:
    """Return rows of several recordings as one series; its time is 0 at the end of each, and negative before."""
    parts = [(sources[number], index, row) for (number, index), row in zip(members, rows) if number in chosen]
    samples = [
        ((born - source.now_cs) / 100, weight, size)
        for source, index, _ in parts
        for born, weight, size in source.recording.table.sized_samples(index)
    ]
    first = min(((row.first_cs - source.now_cs) / 100 for source, _, row in parts), default=0.0)

    def history() -> list[tuple[float, float]]:
        histories = [[((at - source.now_cs) / 100, value) for at, value in row.history] for source, _, row in parts]
        return _added_up(histories, [(row.first_cs - source.now_cs) / 100 for source, _, row in parts])

    peak = None
    if len(parts) == 1:
        source, _, row = parts[0]
        peak = (row.peak_cs - source.now_cs) / 100, float(row.peak_bytes)
    taken = sum(source.recording.taken(row) for source, _, row in parts)
    return Series(samples, history, first, 0.0, peak, taken)


def _added_up(histories: list[list[tuple[float, int]]], firsts: list[float]) -> list[tuple[float, float]]:
    """Return the sum of step functions at all their moments at which each is known; before its first moment one is 0."""
    if len(histories) == 1:
        return [(at, float(value)) for at, value in histories[0]]
    changes: list[tuple[float, int, int]] = []  # (moment, change of the sum, change of how many are unknown)
    for history, first in zip(histories, firsts):
        if not history:
            continue
        if history[0][0] - first > _BEGINNING_S:
            changes += [(first, 0, 1), (history[0][0], 0, -1)]
        before = 0
        for at, value in history:
            changes.append((at, value - before, 0))
            before = value
    changes.sort()
    found: dict[float, float] = {}
    total = unknown = 0
    for at, change, doubt in changes:
        total += change
        unknown += doubt
        if unknown:
            found.pop(at, None)
        else:
            found[at] = float(total)
    return list(found.items())
