"""Sums over live samples, and the median of what they weigh."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional, TypeVar


class LiveSums(NamedTuple):
    """Sums over live samples: everything that estimates, errors and intervals need.

    `w` is a sample's weight, `x` its size in bytes.
    """

    samples: int = 0
    bytes: int = 0  # sum of x: as sampled, unscaled
    est_count: float = 0.0  # sum of w
    est_bytes: float = 0.0  # sum of w x
    variance_count: float = 0.0  # sum of w (w - 1)
    variance_bytes: float = 0.0  # sum of w (w - 1) x^2
    square_count: float = 0.0  # sum of w^2
    square_bytes: float = 0.0  # sum of (w x)^2
    heaviest: tuple[float, int] = (1.0, 0)  # (w, x) of the sample that adds most to variance_bytes

    @classmethod
    def of(cls, samples: Iterable[tuple[float, int]]) -> "LiveSums":
        """Sum over (weight, size in bytes) pairs."""
        number = total = 0
        heaviest, most = (1.0, 0), 0.0
        count = value = variance_count = variance_bytes = square_count = square_bytes = 0.0
        for w, x in samples:
            number += 1
            total += x
            count += w
            value += w * x
            variance_count += w * (w - 1)
            variance_bytes += w * (w - 1) * x * x
            square_count += w * w
            square_bytes += w * w * x * x
            if w * (w - 1) * x * x > most:
                heaviest, most = (w, x), w * (w - 1) * x * x
        sums = (count, value, variance_count, variance_bytes, square_count, square_bytes)
        return cls(number, total, *sums, heaviest)

    def __add__(self, other: "LiveSums") -> "LiveSums":  # type: ignore[override]
        """Add field by field; of the two heaviest samples the heavier is kept."""
        return LiveSums(
            self.samples + other.samples,
            self.bytes + other.bytes,
            self.est_count + other.est_count,
            self.est_bytes + other.est_bytes,
            self.variance_count + other.variance_count,
            self.variance_bytes + other.variance_bytes,
            self.square_count + other.square_count,
            self.square_bytes + other.square_bytes,
            max(self.heaviest, other.heaviest, key=lambda s: s[0] * (s[0] - 1) * s[1] * s[1]),
        )


Number = TypeVar("Number", int, float)


def weighted_median(values: Sequence[tuple[Number, float]]) -> Optional[Number]:
    """Return the value at half of the total weight of (value, weight) pairs; None if there are none."""
    if not values:
        return None
    if len(values) == 1:
        return values[0][0]
    ordered = sorted(values)
    half = sum(weight for _, weight in ordered) / 2
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return ordered[-1][0]
