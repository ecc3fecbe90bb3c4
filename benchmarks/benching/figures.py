"""Numbers from measurements: quartiles, ratios of pairs, errors. A figure is never without its spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """A median between its quartiles, of so many values."""

    low: float
    median: float
    high: float
    count: int

    def words(self, digits: int = 3, factor: float = 1.0) -> str:
        """Return "median [low … high]"."""
        low, median, high = (f"{value * factor:.{digits}f}" for value in self[:3])
        return f"{median} [{low} … {high}]"


def spread(values: Iterable[float]) -> Spread:
    """Return quartiles, between neighbours by proportion; of one value they are all that value."""
    held = sorted(values)
    if not held:
        raise ValueError("no values to take the median of")
    if len(held) == 1:
        return Spread(held[0], held[0], held[0], 1)
    low, median, high = statistics.quantiles(held, n=4, method="inclusive")
    return Spread(low, median, high, len(held))


def order(rounds: int) -> str:
    """Return who runs when: "ABBA" each round, so that a machine that gets slower or faster favours neither."""
    return "ABBA" * rounds


def pairs(sequence: str, values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the (A, B) of each two neighbours of a sequence made by order()."""
    if len(sequence) != len(values) or len(values) % 2:
        raise ValueError(f"{len(values)} values for a sequence of {len(sequence)}")
    found = []
    for first in range(0, len(values), 2):
        both = dict(zip(sequence[first : first + 2], values[first : first + 2]))
        found.append((both["A"], both["B"]))
    return found


def ratios(both: Iterable[tuple[float, float]]) -> list[float]:
    """Return B / A of each pair; a pair without an A says nothing and is left out."""
    return [b / a for a, b in both if a > 0]


def rms_relative_error(truths: Sequence[float], estimates: Sequence[float]) -> float:
    """Return the root of the mean square of (estimate - truth) / truth."""
    if len(truths) != len(estimates) or not truths:
        raise ValueError(f"{len(estimates)} estimates for {len(truths)} truths")
    return math.sqrt(statistics.fmean(((seen - true) / true) ** 2 for true, seen in zip(truths, estimates)))


def weighted_median(counts: dict[int, int], share: float = 0.5) -> int:
    """Return the value below or at which this share of a histogram's counts lies."""
    total, seen = sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= total * share and counts[value]:
            return value
    raise ValueError("an empty histogram has no median")
