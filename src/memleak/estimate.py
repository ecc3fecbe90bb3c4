"""From live samples to estimates with errors and intervals.

Each allocation of size x is sampled with a known probability p and then carries the weight w = 1/p,
so the sum of w x over the samples estimates the total without bias, and w (w - 1) x^2 estimates what
that sample adds to the variance. Allocations are sampled at random gaps, which makes the error of a
regular stream smaller than stated; with narrow gaps (greatest < 8 x least) it may also be larger, so
then no error is given.

The interval. The sampled allocations certainly exist; only the rest, R, is unknown. With n samples of
equal weight, R counts the failures before the n-th success of trials with probability p: a negative
binomial variable with mean m = n (w - 1) and variance v = n w (w - 1). Its quantiles are the limits
of the usual (Clopper-Pearson, for small p Garwood's Poisson) interval: n successes for the lower
limit, n + 1 for the upper. We take the gamma law with the same mean and variance, which is exact in
the Poisson limit (shape n, scale w) and needs nothing but sums. With unequal sizes or weights m and v
are sums over the samples: a compound law, to which a gamma law is fitted again, and the sample that
the upper limit has in addition is the heaviest one seen (Fay and Feuer, 1997: one like it may have
been missed). The lower limit takes half an average sample more than Garwood's, as Jeffreys' does;
Garwood's covers more than it states. The law has a longer tail upwards than downwards, and the fewer
samples carry the total, the longer. `tests/statistical/test_intervals.py` holds all this against
simulated programs; where sizes at one place span several orders of magnitude, 30 samples are too few
and about 92 % are covered.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Optional

from .records import LiveSums

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2
_NO_SAMPLE = -math.log(1 - CONFIDENCE)  # rule of three: no event seen, so less than 3.0 expected
_WILSON_HILFERTY_FROM = 60.0


class Estimate(NamedTuple):
    """A sampled number: its value, standard error, 95 % limits, and how many samples stand behind it.

    `se`, `low` and `high` are None where they cannot be given; `note` then says why.
    """

    value: float
    se: Optional[float]
    low: Optional[float]
    high: Optional[float]
    samples: int
    note: str = ""


def estimate(
    samples: Iterable[tuple[float, float]], *, narrow: bool = False, bound_without_samples: Optional[float] = None
) -> Estimate:
    """Estimate the total of x over all allocations from (weight, x) pairs of the sampled ones.

    Args:
        samples: pairs of weight (at least 1) and x (not negative).
        narrow: the gaps were narrow, so no error can be stated.
        bound_without_samples: what x would weigh in one sample, for the upper limit when there are
            no samples (three times that); None when it is not known.
    """
    count = 0
    certain = value = variance = square = most = 0.0
    heaviest = (1.0, 0.0)
    for weight, x in samples:
        count += 1
        certain += x
        value += weight * x
        adds = weight * (weight - 1) * x * x
        variance += adds
        square += weight * x * weight * x
        if adds > most:
            heaviest, most = (weight, x), adds
    sums = (count, certain, value, variance, square)
    return _estimate(sums, heaviest, narrow, bound_without_samples)


def estimate_count(
    sums: LiveSums, *, narrow: bool = False, mean_interval: Optional[float] = None
) -> Estimate:
    """Estimate the number of live allocations.

    Args:
        sums: sums over the live samples.
        narrow: the gaps were narrow, so no error can be stated.
        mean_interval: mean gap between count samples, when it was the same all the time; it bounds
            the number when there are no samples.
    """
    count = (sums.samples, sums.samples, sums.est_count, sums.variance_count, sums.square_count)
    return _estimate(count, None, narrow, mean_interval)


def estimate_bytes(sums: LiveSums, *, narrow: bool = False, sample_bytes: Optional[float] = None) -> Estimate:
    """Estimate the number of live bytes.

    Args:
        sums: sums over the live samples.
        narrow: the gaps were narrow, so no error can be stated.
        sample_bytes: mean distance between byte samples, when it was the same all the time; it
            bounds the bytes when there are no samples.
    """
    size = (sums.samples, sums.bytes, sums.est_bytes, sums.variance_bytes, sums.square_bytes)
    return _estimate(size, sums.heaviest, narrow, sample_bytes)


def is_narrow(least: int, greatest: int) -> bool:
    """Whether gaps from *least* to *greatest* are too regular for the stated error to hold."""
    return not (least == greatest == 1) and greatest < 8 * least


def _estimate(
    sums: tuple[int, float, float, float, float],
    heaviest: Optional[tuple[float, float]],
    narrow: bool,
    bound_without_samples: Optional[float],
) -> Estimate:
    """Estimate from the number of samples and the sums of x, w x, w (w - 1) x^2 and (w x)^2."""
    count, certain, value, variance, square = sums
    if narrow and (not count or variance > 0):  # what was certain to be sampled is so whatever the gaps
        return Estimate(value, None, None, None, count, "narrow gaps")
    if count == 0:
        if bound_without_samples is None:
            return Estimate(0.0, None, None, None, 0, "no samples")
        return Estimate(0.0, None, 0.0, _NO_SAMPLE * bound_without_samples, 0, "no samples")
    unseen = value - certain
    if variance <= 0 or unseen <= 0:
        return Estimate(value, 0.0, value, value, count)
    # As many samples of equal weight would vary like these do; so much does one of them add.
    equal_samples = value * value / square
    average = unseen / equal_samples, variance / equal_samples
    if heaviest is None:
        one_more = average
    else:
        w, x = heaviest
        one_more = (w - 1) * x, w * (w - 1) * x * x
    low = certain + _fitted_quantile(_TAIL, unseen + average[0] / 2, variance + average[1] / 2)
    high = certain + _fitted_quantile(1 - _TAIL, unseen + one_more[0], variance + one_more[1])
    return Estimate(value, math.sqrt(variance), min(low, value), max(high, value), count)


def _fitted_quantile(p: float, mean: float, variance: float) -> float:
    """Return the quantile of the gamma law with this mean and variance."""
    return variance / mean * gamma_quantile(p, mean * mean / variance)


def normal_quantile(p: float) -> float:
    """Return z with P(Z <= z) = p for a standard normal Z, to about 1e-15.

    Raises:
        ValueError: p is not between 0 and 1.
    """
    if not 0 < p < 1:
        raise ValueError(f"a probability between 0 and 1 is needed, not {p}")
    # Abramowitz and Stegun 26.2.23, then Newton steps on erfc.
    tail = min(p, 1 - p)
    t = math.sqrt(-2 * math.log(tail))
    z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)))
    for _ in range(4):
        error = 0.5 * math.erfc(z / math.sqrt(2)) - tail
        z += error * math.sqrt(2 * math.pi) * math.exp(z * z / 2)
    return -z if p < 0.5 else z


@lru_cache(maxsize=4096)
def gamma_quantile(p: float, shape: float) -> float:
    """Return x with P(G <= x) = p for a gamma variable G of this shape and scale 1.

    Relative error below 1e-4 (Wilson and Hilferty's approximation) from shape 60 on, 1e-9 below.

    Raises:
        ValueError: p is not between 0 and 1, or shape is not positive.
    """
    if shape <= 0:
        raise ValueError(f"a positive shape is needed, not {shape}")
    z = normal_quantile(p)
    guess = shape * (1 - 1 / (9 * shape) + z / (3 * math.sqrt(shape))) ** 3
    if shape >= _WILSON_HILFERTY_FROM:
        return guess
    # Bisection on the logarithm: few, small, and never astray, whatever the shape. Below e^-700
    # (shapes near 0) the quantile is 0 for every purpose.
    if shape * -700 - math.lgamma(shape + 1) > math.log(p):
        return 0.0
    low, high = -700.0, math.log(shape + 50 + 10 * math.sqrt(shape))
    x = math.log(guess) if guess > 1e-3 * shape and guess > 0 else (math.log(p) + math.lgamma(shape + 1)) / shape
    x = min(max(x, low), high)
    for _ in range(200):
        point = math.exp(x)
        error = _gamma_cdf(point, shape) - p
        if error > 0:
            high = x
        else:
            low = x
        density = math.exp(shape * x - point - math.lgamma(shape))  # d cdf / d log x
        step = error / density if density > 0 else math.inf
        following = x - step
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - x) < 1e-11:
            x = following
            break
        x = following
    return math.exp(x)


def _gamma_cdf(x: float, shape: float) -> float:
    """Return P(G <= x), by the series below the mean and the continued fraction above it."""
    if x <= 0:
        return 0.0
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1 / shape
        n = shape
        while term > total * 1e-16:
            n += 1
            term *= x / n
            total += term
        return total * front
    tiny = 1e-300
    b = x + 1 - shape
    c = 1 / tiny
    d = 1 / b
    fraction = d
    for i in range(1, 500):
        a = -i * (i - shape)
        b += 2
        d = 1 / (a * d + b or tiny)
        c = b + a / c or tiny
        fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return 1 - front * fraction
