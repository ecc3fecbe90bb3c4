"""Do events come at a steady rate, ever more often, or ever less? And which of many findings are more than chance?

The law that is fitted to the times of events in an interval, scaled to [0, 1], has the density k e^(k u) / (e^k - 1):
k = 0 is a steady rate, k > 0 one that rises by e^k from beginning to end. The test of k = 0 in it is Laplace's test for a
trend (Cox and Lewis, The Statistical Analysis of Series of Events, 1966); its statistic is the mean of the times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_FLAT = 1e-4  # below this the law is a straight line, and the formulas lose their digits
_STEEPEST = 60.0


class Trend(NamedTuple):
    """The fitted law: `k` of the module's text, and its standard error."""

    k: float
    se: float

    @property
    def z(self) -> float:
        """How many standard errors the rate is from steady."""
        return self.k / self.se


def trend(mean: float, events: float) -> Trend:
    """Fit the law to events whose times, scaled to [0, 1], have this mean.

    Args:
        mean: of the times; strictly between 0 and 1.
        events: how many there were; of events that do not weigh the same (sum of weights)^2 / sum of squares.
    """
    low, high = -_STEEPEST, _STEEPEST
    for _ in range(60):
        middle = (low + high) / 2
        if _mean_at(middle) < mean:
            low = middle
        else:
            high = middle
    k = (low + high) / 2
    return Trend(k, 1 / math.sqrt(max(events, 1e-9) * _variance_at(k)))


def _mean_at(k: float) -> float:
    if abs(k) < _FLAT:
        return 0.5 + k / 12
    return 1 / -math.expm1(-k) - 1 / k


def _variance_at(k: float) -> float:
    if abs(k) < 0.01:
        return 1 / 12 - k * k / 240
    return 1 / (k * k) - 1 / (2 * math.cosh(k) - 2)


def upper_tail(z: float) -> float:
    """Return P(Z > z) of a standard normal Z."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def discoveries(p_values: Sequence[float], rate: float, others: int = 0) -> list[bool]:
    """Return which of the hypotheses are rejected when at most *rate* of the rejections may be false.

    Benjamini and Hochberg, 1995: the k smallest, for the greatest k whose k-th value is at most rate k / n. *others* is
    how many more hypotheses there are, whose values are 1.
    """
    n = len(p_values) + others
    order = sorted((index for index, p in enumerate(p_values) if p <= rate), key=p_values.__getitem__)
    most = max((place for place, index in enumerate(order, 1) if p_values[index] <= rate * place / n), default=0)
    found = [False] * len(p_values)
    for index in order[:most]:
        found[index] = True
    return found
