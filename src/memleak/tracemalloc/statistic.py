"""tracemalloc's `Statistic` and `StatisticDiff`, with what is known of their error, and how traces become them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from tracemalloc import Statistic as PlainStatistic
from tracemalloc import StatisticDiff as PlainStatisticDiff
from tracemalloc import Traceback

from ..estimate import Estimate, estimate_bytes, estimate_count, normal_quantile
from ..records import LiveSums
from .blocks import Frames, RawTrace, SampledTrace

_Z = normal_quantile(0.975)


class Statistic(PlainStatistic):
    """Blocks of one place: `traceback`, `size`, `count`. The numbers are estimates where blocks were sampled.

    The limits are 95 %. Of exact numbers the errors are 0 and the limits the numbers themselves; errors and limits are
    None where none can be stated (`memleak.estimate`).
    """

    __slots__ = ("_narrow", "_sums")

    def __init__(
        self, traceback: Traceback, size: int, count: int, sums: LiveSums | None = None, narrow: bool = False
    ) -> None:
        """Take the numbers, and what is known of the samples that they rest on: None for exact ones."""
        super().__init__(traceback, size, count)
        self._sums = sums
        self._narrow = narrow

    @property
    def samples(self) -> int:
        """How many recorded blocks the numbers rest on."""
        return self.count if self._sums is None else self._sums.samples

    @property
    def size_estimate(self) -> Estimate:
        """Value, standard error and limits of `size`."""
        if self._sums is None:
            return Estimate(self.size, 0.0, self.size, self.size, self.samples)
        return estimate_bytes(self._sums, narrow=self._narrow)

    @property
    def count_estimate(self) -> Estimate:
        """Value, standard error and limits of `count`."""
        if self._sums is None:
            return Estimate(self.count, 0.0, self.count, self.count, self.samples)
        return estimate_count(self._sums, narrow=self._narrow)

    @property
    def size_se(self) -> float | None:
        """Standard error of `size`."""
        if self._narrow:
            return None
        return 0.0 if self._sums is None else math.sqrt(self._sums.variance_bytes)

    @property
    def size_low(self) -> float | None:
        """Lower limit of `size`."""
        return self.size_estimate.low

    @property
    def size_high(self) -> float | None:
        """Upper limit of `size`."""
        return self.size_estimate.high


class StatisticDiff(PlainStatisticDiff):
    """The difference of two statistics: tracemalloc's numbers, and the standard error of `size_diff`.

    The limits are 95 % and treat the two snapshots as independent, which overstates the error of
    snapshots of the same process.
    """

    __slots__ = ("size_diff_se",)

    def __init__(
        self,
        traceback: Traceback,
        size: int,
        size_diff: int,
        count: int,
        count_diff: int,
        size_diff_se: float | None = 0.0,
    ) -> None:
        """Take the numbers; *size_diff_se* None: it cannot be stated."""
        super().__init__(traceback, size, size_diff, count, count_diff)
        self.size_diff_se = size_diff_se

    @property
    def size_diff_low(self) -> float | None:
        """Lower limit of `size_diff`."""
        return None if self.size_diff_se is None else self.size_diff - _Z * self.size_diff_se

    @property
    def size_diff_high(self) -> float | None:
        """Upper limit of `size_diff`."""
        return None if self.size_diff_se is None else self.size_diff + _Z * self.size_diff_se


Groups = dict[Traceback, Statistic]


def grouped(traces: Iterable[RawTrace], key_type: str, cumulative: bool, narrow: bool) -> Groups:
    """Return a statistic for each place, as `tracemalloc.Snapshot.statistics` takes them together.

    Raises:
        ValueError: no such *key_type*, or not a cumulative one.
    """
    if key_type not in ("traceback", "filename", "lineno"):
        raise ValueError(f"unknown key_type: {key_type!r}")
    if cumulative and key_type == "traceback":
        raise ValueError(f"cumulative mode cannot by used with key type {key_type!r}")
    blocks: dict[Frames, list[RawTrace]] = {}
    for trace in traces:
        blocks.setdefault(trace[2], []).append(trace)
    places: dict[Frames, list[RawTrace]] = {}
    for frames, found in blocks.items():
        for place in _places(frames, key_type, cumulative):
            places.setdefault(place, []).extend(found)
    return {
        traceback: _statistic(traceback, found, narrow)
        for traceback, found in ((Traceback(place), found) for place, found in places.items())
    }


def _places(frames: Frames, key_type: str, cumulative: bool) -> Iterable[Frames]:
    if key_type == "traceback":
        return (frames,)
    return [(frame if key_type == "lineno" else (frame[0], 0),) for frame in (frames if cumulative else frames[:1])]


def _statistic(traceback: Traceback, traces: list[RawTrace], narrow: bool) -> Statistic:
    size = sum([trace[1] for trace in traces])
    if not any(isinstance(trace, SampledTrace) for trace in traces):
        return Statistic(traceback, size, len(traces))
    sums = LiveSums.of(weight_and_size(trace) for trace in traces)
    return Statistic(traceback, size, round(sums.est_count), sums, narrow)


def weight_and_size(trace: RawTrace) -> tuple[float, int]:
    """Return how many blocks a trace stands for and the size of the one that was recorded."""
    return (trace.weight, trace.block_size) if isinstance(trace, SampledTrace) else (1.0, trace[1])


def largest_first(found: Iterable[Statistic]) -> list[Statistic]:
    """Sort statistics as `tracemalloc.Snapshot.statistics` does."""
    return sorted(found, key=lambda one: (one.size, one.count, one.traceback), reverse=True)


def compared(old: Groups, new: Groups) -> list[StatisticDiff]:
    """Return the difference of each place of either, the largest change first, as `compare_to` does."""
    differences = []
    for place in {**new, **old}:
        newer, older = new.get(place), old.get(place)
        size, count = (newer.size, newer.count) if newer else (0, 0)
        old_size, old_count = (older.size, older.count) if older else (0, 0)
        errors = [found.size_se for found in (newer, older) if found]
        known = [error for error in errors if error is not None]
        se = math.hypot(*known) if len(known) == len(errors) else None
        differences.append(StatisticDiff(place, size, size - old_size, count, count - old_count, se))

    def order(one: StatisticDiff) -> tuple[int, int, int, int, Traceback]:
        return abs(one.size_diff), one.size, abs(one.count_diff), one.count, one.traceback

    return sorted(differences, key=order, reverse=True)
