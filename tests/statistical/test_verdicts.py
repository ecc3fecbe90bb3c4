"""Simulated stacks are judged as well as docs/explanation/verdict.md says: a slice of `python benchmarks/growth`.

Seeds are fixed and were not chosen. With 200 seeds a shape, 99.1 % of leaks were found, 0.1 % of the others called one, 94 %
of rates and 94 % of levels were within their limits; the bounds here leave what so few seeds may be off by, three
standard errors.
"""

from __future__ import annotations

import pytest

pytest.importorskip("numpy")

from growth.shapes import SHAPES
from growth.simulation import figures, fill, watch

SEEDS = 20


def test_leaks_are_found_within_half_an_hour_and_their_rates_hold():
    outcomes = [watch(number, seed) for number, shape in enumerate(SHAPES) if shape.leaks for seed in range(SEEDS)]
    found = figures(outcomes, [])
    assert found["leaks found within 30 min"] >= 0.95
    assert found["rates within their intervals"] >= 0.93 - 3 * (0.07 * 0.93 / len(outcomes)) ** 0.5


@pytest.mark.parametrize("number", [n for n, shape in enumerate(SHAPES) if not shape.leaks], ids=lambda n: SHAPES[n].name)
def test_what_does_not_leak_is_not_called_one_in_a_day(number):
    outcomes = [watch(number, seed) for seed in range(SEEDS // 2)]
    assert not any(outcome.called_leak for outcome in outcomes)


def test_levels_of_filling_caches_lie_within_their_limits():
    levels = [level for seed in range(2 * SEEDS) for level in fill(seed)]
    told = [level for level in levels if level.told]
    assert len(told) > len(levels) / 2
    assert sum(level.inside for level in told) / len(told) >= 0.88 - 0.05
