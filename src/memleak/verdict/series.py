"""What is known of one stack over time: what it held, and what of that it still holds.

`held(t)` comes from the history of its row: estimated live bytes at some moments. `kept(t)` comes from the ages of its live
samples: what was allocated up to t and is live now. Their difference is what was live at t and has been freed since. All
three are estimates from one set of samples, so the difference is never negative but for what was lost.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple, Union

from ..once import once
from ..records import LiveSums

Points = Sequence[tuple[float, float]]
History = Union[Points, Callable[[], Points]]
_DIGITS = 1e-9


class Part(NamedTuple):
    """Samples allocated in a stretch of time that are live now."""

    bytes: float  # estimated
    events: float  # as many samples of equal weight would vary like these
    mean_time: float  # of their births, weighted by bytes; 0 without samples
    sums: LiveSums


class Series:
    """One stack, in seconds since its recording began.

    Args:
        samples: (time of birth, weight, size in bytes) of its live samples.
        history: (time, estimated live bytes), oldest first, or what returns them; between two moments it may have been
            anything.
        first: when it was first seen.
        now: when the recording was read, or ended.
        peak: (time, estimated live bytes) of its highest.
        taken: samples ever taken of it; 0: not known.
    """

    def __init__(
        self,
        samples: Iterable[tuple[float, float, int]],
        history: History,
        first: float,
        now: float,
        peak: tuple[float, float] | None = None,
        taken: int = 0,
    ) -> None:
        """Sort by birth and add up."""
        ordered = sorted(samples)
        self.first = first
        self.now = max(now, first)
        self.peak = peak
        self.nothing_freed = taken == len(ordered) > 0
        self.taken = max(taken, len(ordered))
        self._births = [birth for birth, _, _ in ordered]
        self._samples = [(weight, size) for _, weight, size in ordered]
        values = [weight * size for weight, size in self._samples]
        self._bytes = [0.0, *accumulate(values)]
        self._square = sum([value * value for value in values])
        self._history = history

    @once
    def points(self) -> list[tuple[float, float]]:
        """What was held: (time, bytes), the last of them now."""
        history = self._history() if callable(self._history) else self._history
        return [*((at, value) for at, value in history if self.first <= at < self.now), (self.now, self._bytes[-1])]

    @once
    def _times(self) -> list[float]:
        return [at for at, _ in self.points]

    @once
    def _squares(self) -> list[float]:
        return [0.0, *accumulate((weight * size) ** 2 for weight, size in self._samples)]

    @once
    def _moments(self) -> list[float]:
        births = zip(self._births, self._samples)
        return [0.0, *accumulate(birth * weight * size for birth, (weight, size) in births)]

    @property
    def age(self) -> float:
        """Seconds since the stack was first seen."""
        return self.now - self.first

    @property
    def bytes(self) -> float:
        """Estimated live bytes."""
        return self._bytes[-1]

    @property
    def samples(self) -> int:
        """Live samples."""
        return len(self._births)

    @property
    def events(self) -> float:
        """As many samples of equal weight would vary like these."""
        return self._bytes[-1] ** 2 / self._square if self._square else 0.0

    @property
    def grain(self) -> float:
        """Variance for each byte: what chance does to sums of such samples, that of sampling and that of their coming."""
        return self._square / self._bytes[-1] if self._bytes[-1] else 0.0

    def kept(self, at: float) -> float:
        """Return the estimated bytes that were allocated up to *at* and are live now."""
        return self._bytes[bisect_right(self._births, at)]

    def born(self, low: float, high: float) -> Part:
        """Return what was allocated after *low* and up to *high* and is live now."""
        i, j = bisect_right(self._births, low), bisect_right(self._births, high)
        total = self._bytes[j] - self._bytes[i]
        squares = self._squares[j] - self._squares[i]
        if i == j or total <= 0:
            return Part(0.0, 0.0, 0.0, LiveSums())
        moments = self._moments[j] - self._moments[i]
        if squares <= _DIGITS * self._squares[j]:  # behind blocks of gigabytes the digits of small ones are lost
            each = [weight * size for weight, size in self._samples[i:j]]
            total, squares = math.fsum(each), math.fsum(value * value for value in each)
            moments = math.fsum(birth * value for birth, value in zip(self._births[i:j], each))
        return Part(total, total * total / squares, moments / total, LiveSums.of(self._samples[i:j]))

    def bursts(self, low: float, high: float, k: float) -> float:
        """Return how much more births in a stretch vary than single events would, at least 1: the index of dispersion.

        Of a dozen bins of equal expected share under the density of `trend`, with that law's *k*.
        """
        bins = 12
        edges = [low + (high - low) * _quantile(n / bins, k) for n in range(bins + 1)]
        parts = [self.kept(b) - self.kept(a) for a, b in zip(edges, edges[1:])]
        whole = self.born(low, high)
        if whole.events < 3 * bins:
            return 1.0
        each = whole.bytes / bins
        chance = whole.bytes / whole.events * each  # variance of one part, were they single events
        return max(1.0, sum((part - each) ** 2 for part in parts) / chance / (bins - 1))

    def shortest_with(self, share: float) -> tuple[float, float]:
        """Return the shortest stretch of time in which *share* of the live bytes were allocated."""
        wanted = share * self._bytes[-1]
        best = (self.first, self.now)
        for i, birth in enumerate(self._births):
            j = bisect_left(self._bytes, self._bytes[i] + wanted * (1 - 1e-9))
            if j >= len(self._bytes):
                break
            end = self._births[j - 1]
            if end - birth < best[1] - best[0]:
                best = (birth, end)
        return best

    def held_near(self, at: float) -> tuple[float, float] | None:
        """Return the first moment from *at* on of which is known what was held, and that; None: only of now."""
        if at <= self.first:
            return (self.first, 0.0)
        if self.nothing_freed and at < self.now:
            return (at, self.kept(at))
        i = bisect_left(self._times, at)
        return self.points[i] if i < len(self.points) - 1 else None

    def falls(self) -> tuple[float, float, float]:
        """Return of what was held (longest rise before a fall, when it was lowest after the last, greatest fall).

        Seconds, time, bytes; zeros when it never fell by more than chance.
        """
        points = self.points if self.peak is None else sorted([*self.points, self.peak])
        longest = low_at = greatest = 0.0
        began, low = self.first, 0.0
        high_at, high = self.first, 0.0
        falling = False
        for at, value in points:
            if falling:
                if value <= low:
                    began, low = at, value
                    greatest = max(greatest, high - value)
                    low_at = at
                    continue
                falling = False
                high_at, high = at, value
            elif value >= high:
                high_at, high = at, value
            elif high - value > 3 * math.sqrt(self.grain * (high + value)):
                longest = max(longest, high_at - began)
                greatest = max(greatest, high - value)
                began = low_at = at
                low = value
                falling = True
        return longest, low_at, greatest


def _quantile(p: float, k: float) -> float:
    """Return u with P(U <= u) = p under the density k e^(k u) / (e^k - 1)."""
    if not 0 < p < 1 or abs(k) < 1e-6:
        return p
    return 1 + math.log(p + (1 - p) * math.exp(-k)) / k if k > 0 else math.log1p(p * math.expm1(k)) / k
