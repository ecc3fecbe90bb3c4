"""When what grows will have used up what is left: leaks at their rate, saturating stacks as far as their level.

What too few samples tell from a cache goes on as a leak does; at the least, it comes to an end at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .judging import SATURATING, TOO_FEW, Verdict

_Z95 = 1.96
_FARTHEST_S = 10 * 365.25 * 86400.0  # nobody wants to know more


class Forecast(NamedTuple):
    """What the growing stacks of a process will do to its limit.

    Attributes:
        limit_bytes: the limit.
        headroom_bytes: what was left of it when it was last looked at.
        rate: bytes per second now, with 95 % limits: (value, low, high).
        seconds: until nothing is left: (value, soonest, latest), None for each that never comes; rates as they are.
        levels_above: bytes above the limit at which it all would level if only saturating stacks grow; None when it
            would level below, or when something leaks, or may.
    """

    limit_bytes: int
    headroom_bytes: float
    rate: tuple[float, float, float]
    seconds: tuple[float | None, float | None, float | None]
    levels_above: float | None


def forecast(found: Sequence[tuple[Verdict, float]], limit_bytes: int, used_bytes: float) -> Forecast:
    """Add up what grows and see when it meets the limit.

    Args:
        found: verdicts with the estimated live bytes of their stacks.
        limit_bytes: what bounds the memory.
        used_bytes: how much of it is in use.
    """
    headroom = max(0.0, limit_bytes - used_bytes)
    growing = [verdict for verdict, _ in found if verdict.grows]
    value, below, above = (
        sum(_speed(verdict, 0) for verdict in growing),
        *(math.sqrt(sum((_speed(verdict, side) - _speed(verdict, 0)) ** 2 for verdict in growing)) for side in (-1, 1)),
    )
    seconds = (
        _meets(lambda t: _grown(found, t, 0), headroom),
        _meets(lambda t: _grown(found, t, 1), headroom),
        _meets(lambda t: _grown(found, t, -1), headroom),
    )
    may_leak = any(verdict.grows and verdict.verdict != SATURATING for verdict, _ in found)
    beyond = _grown(found, _FARTHEST_S, 0) - headroom
    return Forecast(
        limit_bytes, headroom, (value, max(0.0, value - below), value + above), seconds,
        beyond if not may_leak and beyond > 0 else None,
    )  # fmt: skip


def _grown(found: Sequence[tuple[Verdict, float]], seconds: float, side: int) -> float:
    """Return the bytes that will have come by then; side 0: expected, 1: at most, -1: at least. Errors are independent."""
    expected = square = 0.0
    for verdict, held in found:
        middle = _one(verdict, held, seconds, 0)
        expected += middle
        square += (_one(verdict, held, seconds, side) - middle) ** 2
    return max(0.0, expected + side * math.sqrt(square))


def _one(verdict: Verdict, held: float, seconds: float, side: int) -> float:
    level = verdict.level
    if not verdict.grows or (verdict.verdict == TOO_FEW and side < 0):
        return 0.0
    if (
        verdict.verdict != SATURATING
        or level is None
        or not verdict.time_constant_s
        or (side > 0 and level.high is None)
    ):
        return _speed(verdict, side) * seconds  # nothing says that it ends
    more = max(0.0, _side(level.value, level.low, level.high, side) - held)
    return more * -math.expm1(-seconds / verdict.time_constant_s)


def _speed(verdict: Verdict, side: int) -> float:
    """Return the rate to go on with: its interval is that of the samples, or that of how the blocks happen to come."""
    rate = verdict.rate
    assert rate is not None
    chance = _Z95 / math.sqrt(verdict.events) if verdict.events > 0 else 0.0
    if side == 0:
        return rate.value
    if side < 0:
        return max(0.0, min(rate.value if rate.low is None else rate.low, rate.value * (1 - chance)))
    return max(rate.value if rate.high is None else rate.high, rate.value * (1 + chance))


def _side(value: float, low: float | None, high: float | None, side: int) -> float:
    chosen = value if side == 0 else high if side > 0 else low
    return value if chosen is None else chosen


def _meets(grown: Callable[[float], float], headroom: float) -> float | None:
    if grown(_FARTHEST_S) < headroom or headroom < 0:
        return None
    if headroom == 0:
        return 0.0
    low, high = 0.0, _FARTHEST_S
    for _ in range(80):
        middle = (low + high) / 2
        if grown(middle) < headroom:
            low = middle
        else:
            high = middle
    return high
