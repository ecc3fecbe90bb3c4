"""A straight line through live bytes and a gauge, with an error that knows how samples are shared by moments.

For live bytes y beside a gauge x the line y = a + b x is drawn by least squares. Its error has two parts.

Sampling. The estimate at moment i is off by a variance V(i), which the weights of the samples tell. The errors of two
moments are not independent: what lives at both was sampled once. How much that is no history tells. There are two
extremes: all that can be shared is, Cov(i, j) = the least V from i to j, which is a program that piles up and takes
down; and nothing is, which is one that replaces all it holds from moment to moment. The residuals say where in between.

All else: memory that does not follow the gauge, or not in a straight line. Where the residuals are larger than sampling
explains, both forms are scaled up until they do, and the interval takes Student's t with the few degrees of freedom
that a drift leaves. In full mode there is no sampling error, and residuals are all there is.

`tests/statistical/test_scaling.py` holds the intervals against simulated programs.
"""

import math
from collections.abc import Callable, Sequence
from operator import mul
from typing import NamedTuple, Optional

_Z = 1.959964
_DRIFT_FREEDOM = 3  # of residuals that wander: nearly all is in the first few waves
SCALED_FROM = 2.0  # of the variance that sampling brings; by chance once in ten
_ROUNDING = 1e-9


class Series(NamedTuple):
    """What is laid beside a gauge: live bytes and the variance of their estimate, at moments."""

    bytes: list[float]
    variance: list[float]


class Fit(NamedTuple):
    """A line; `half_width` is of the slope, 95 %, `scaled` how many times the variance of sampling it takes."""

    slope: float
    base: float
    half_width: float
    r_squared: Optional[float]
    scaled: float
    p: float
    predictions: tuple[tuple[float, float], ...]  # (value, half of the interval) for each x asked for


def fit(x: Sequence[float], series: Series, wanted: Sequence[float] = ()) -> Fit:
    """Draw a line through points in order of time; *wanted* are the x at which it is asked for.

    The x must have two values at least.
    """
    y = series.bytes
    number = len(x)
    mean_x, mean_y = sum(x) / number, sum(y) / number
    off = [value - mean_x for value in x]
    spread = sum(d * d for d in off)
    slope = sum(d * (value - mean_y) for d, value in zip(off, y)) / spread
    base = mean_y - slope * mean_x
    rest = [value - base - slope * where for where, value in zip(x, y)]
    left = sum(value * value for value in rest)
    whole = sum((value - mean_y) ** 2 for value in y)
    sampled = any(series.variance)
    variance = series.variance if sampled else [abs(value) for value in y]
    shared, apart = _shared(_least_between(variance)), _apart(variance)
    steps = sum((after - before) ** 2 for before, after in zip(rest, rest[1:]))
    parts = _components(left, steps, off, spread, variance, shared, apart)
    scaled = sum(parts) if sampled else 0.0
    if sampled and scaled < 1:  # less than sampling brings cannot be
        parts = parts[0] + 1 - scaled, parts[1]
    beyond = sum(parts) - 1 if sampled else sum(parts)
    per_byte = sum(variance) / sum(y) if sum(y) > 0 else 0.0
    weights = [[d / spread for d in off]]
    weights += [[1 / number + (where - mean_x) * d / spread for d in off] for where in wanted]
    halves = []
    for index, weight in enumerate(weights):
        drifting, jumping = parts[0] * shared(weight), parts[1] * apart(weight)
        if index:  # what the line does not explain will be there at that size, too
            jumping += max(0.0, beyond) * per_byte * max(0.0, base + slope * wanted[index - 1])
        if sampled and scaled < SCALED_FROM:
            quantile = _Z
        else:
            quantile = student(_DRIFT_FREEDOM if not sampled or 4 * drifting > jumping else max(1, number - 2))
        halves.append(quantile * math.sqrt(drifting + jumping) + _ROUNDING * abs(slope if not index else base))
    half = halves[0]
    p = math.erfc(abs(slope) * _Z / half / math.sqrt(2)) if half > 0 else 0.0 if slope else 1.0
    explained = 1 - left / whole if whole > 0 else None
    asked = tuple((base + slope * where, extent) for where, extent in zip(wanted, halves[1:]))
    return Fit(slope, base, half, explained, scaled, p, asked)


def _components(
    left: float,
    steps: float,
    off: Sequence[float],
    spread: float,
    variance: Sequence[float],
    shared: Callable[[Sequence[float]], float],
    apart: Callable[[Sequence[float]], float],
) -> tuple[float, float]:
    """Return how much of the two forms of covariance, shared and apart, explains the residuals: of each at least 0.

    By the method of moments: the sum of squares of residuals, and that of their steps from moment to moment, are what
    the sum of both forms leads one to expect. Residuals that wander take small steps.
    """
    number = len(off)
    unit = [d / math.sqrt(spread) for d in off]
    ones = [1 / math.sqrt(number)] * number
    # Steps are r' L r; of what the projection leaves: L - u (L u)' - (L u) u' + (u' L u) u u', u: the unit along x.
    bent = [
        (unit[i] - unit[i - 1] if i else 0.0) + (unit[i] - unit[i + 1] if i + 1 < number else 0.0)
        for i in range(number)
    ]
    bend = sum(map(mul, unit, bent))
    expected = []
    for form, neighbours in ((shared, list(map(min, variance, variance[1:]))), (apart, [0.0] * (number - 1))):
        along = form(unit)
        squares = sum(variance) - form(ones) - along
        both = form([a + b for a, b in zip(unit, bent)]) - form([a - b for a, b in zip(unit, bent)])
        whole = 2 * sum(variance) - variance[0] - variance[-1] - 2 * sum(neighbours)
        expected.append((squares, whole - both / 2 + bend * along))
    (drift, drift_steps), (jump, jump_steps) = expected
    determinant = drift * jump_steps - jump * drift_steps
    if determinant <= 1e-12 * abs(drift * jump_steps):
        return (left / drift if drift > 0 else 0.0), 0.0
    wander, leap = (left * jump_steps - jump * steps) / determinant, (drift * steps - left * drift_steps) / determinant
    if wander < 0:
        return 0.0, left / jump if jump > 0 else 0.0
    if leap < 0:
        return left / drift if drift > 0 else 0.0, 0.0
    return wander, leap


def _least_between(values: Sequence[float]) -> list[list[float]]:
    """Return for each i the least of values[i … j], for each j from i on."""
    found = []
    for start in range(len(values)):
        least, row = math.inf, []
        for value in values[start:]:
            least = min(least, value)
            row.append(least)
        found.append(row)
    return found


def _shared(rows: list[list[float]]) -> Callable[[Sequence[float]], float]:
    """Return w -> w' C w with C(i, j) = rows[i][j - i]."""

    def quadratic(w: Sequence[float]) -> float:
        total = 0.0
        for i, row in enumerate(rows):
            total += w[i] * (2 * sum(map(mul, row, w[i:])) - row[0] * w[i])
        return max(0.0, total)  # a variance: less is rounding

    return quadratic


def _apart(variance: Sequence[float]) -> Callable[[Sequence[float]], float]:
    """Return w -> w' C w with C diagonal."""
    return lambda w: sum(value * weight * weight for value, weight in zip(variance, w))


def median_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the median of the slopes of all pairs of points (Theil and Sen): a few odd points do not move it."""
    slopes = sorted((y[j] - y[i]) / (x[j] - x[i]) for i in range(len(x)) for j in range(i) if x[i] != x[j])
    half = len(slopes) // 2
    return slopes[half] if len(slopes) % 2 else (slopes[half - 1] + slopes[half]) / 2


_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, to 1 %."""
    return _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else _Z + 2.4 / freedom + 2.7 / freedom**2
