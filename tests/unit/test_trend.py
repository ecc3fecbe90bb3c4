"""memleak.verdict.trend: the law of times, and findings that are more than chance."""

from __future__ import annotations

import math
import random

import pytest

from memleak.verdict.trend import discoveries, trend, upper_tail


@pytest.mark.parametrize("k", [-20.0, -3.0, -0.5, 0.0, 1e-5, 0.7, 5.0, 30.0])
def test_trend_finds_the_law_that_times_came_from(k):
    rng = random.Random(7)
    events = 20_000
    times = []
    for _ in range(events):
        u = rng.random()
        times.append(u if abs(k) < 1e-9 else math.log1p(u * math.expm1(k)) / k)
    found = trend(sum(times) / events, events)
    assert abs(found.k - k) < 4 * found.se
    assert found.se < 0.3


def test_the_error_of_a_steady_rate_is_that_of_uniform_times():
    assert trend(0.5, 100).se == pytest.approx(math.sqrt(12 / 100), rel=1e-3)
    assert trend(0.5, 100).z == pytest.approx(0, abs=1e-6)


def test_trend_of_extreme_means_stays_finite():
    for mean in (1e-9, 1 - 1e-9):
        found = trend(mean, 10)
        assert math.isfinite(found.k) and math.isfinite(found.se) and found.se > 0


def test_discoveries_are_those_of_benjamini_and_hochberg():
    # Their own example (1995, section 4): at 0.05 the first four of fifteen.
    p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
        0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
    ]  # fmt: skip
    assert discoveries(p, 0.05) == [True] * 4 + [False] * 11
    shuffled = list(reversed(p))
    assert discoveries(shuffled, 0.05) == [False] * 11 + [True] * 4
    assert discoveries([], 0.05) == []


def test_upper_tail_is_the_normal_law():
    assert upper_tail(0) == 0.5
    assert upper_tail(1.959964) == pytest.approx(0.025, rel=1e-5)
