"""Judge simulated stacks as time goes on, and count what was right."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from memleak.verdict import LEAK, SATURATING, TOO_FEW, judge

from .shapes import DAY, SHAPES, Shape, filling, series_at

FIRST_LOOKS_S = (900.0, 1200.0, 1500.0, 1800.0)
LATER_LOOKS_S = tuple(1800.0 * n for n in range(2, 49))
FILLS = (0.5, 0.6, 0.7, 0.8, 0.9)


class Outcome(NamedTuple):
    """What became of one stack.

    Attributes:
        shape: its name.
        leaks: whether it does.
        said: the verdicts at 30 minutes and, unless it leaks, after a day.
        called_leak: whether any look said so: within 30 minutes if it leaks, else within the day.
        rate_inside: whether the true rate is within the interval at 30 minutes; None when no leak was seen then.
    """

    shape: str
    leaks: bool
    said: tuple[str, ...]
    called_leak: bool
    rate_inside: bool | None


def watch(number: int, seed: int) -> Outcome:
    """Watch one stack of the shape with this number: half an hour if it leaks, else a day."""
    shape: Shape = SHAPES[number]
    random = np.random.default_rng([seed, number])
    stack, rate, _ = shape.make(random, FIRST_LOOKS_S[-1] if shape.leaks else DAY)
    said, called, inside = [], False, None
    for now in FIRST_LOOKS_S if shape.leaks else FIRST_LOOKS_S + LATER_LOOKS_S:
        (verdict,) = judge([series_at(stack, now)])
        called |= verdict.verdict == LEAK
        if now in (FIRST_LOOKS_S[-1], LATER_LOOKS_S[-1]):
            said.append(verdict.verdict)
        if shape.leaks and now == FIRST_LOOKS_S[-1] and verdict.verdict == LEAK:
            found = verdict.rate
            inside = found.low <= rate <= found.high
    return Outcome(shape.name, shape.leaks, tuple(said), called, inside)


class Level(NamedTuple):
    """How a cache that fills was judged when so much of it was full."""

    fill: float
    said: str
    told: bool  # a level was told
    inside: bool  # the true one is within its limits
    width: float  # highest / lowest, of those that have both


def fill(seed: int) -> list[Level]:
    """Watch one cache that fills for a quarter of an hour to hours."""
    random = np.random.default_rng([seed, 1000])
    constant = float(np.exp(random.uniform(np.log(1300), np.log(7200))))
    stack, _, level = filling(random, DAY, constant)
    found = []
    for share in FILLS:
        (verdict,) = judge([series_at(stack, -constant * math.log1p(-share))])
        told = verdict.level is not None
        low, high = (verdict.level.low, verdict.level.high or math.inf) if told else (0.0, 0.0)
        found.append(Level(share, verdict.verdict, told, told and low <= level <= high, high / low if told else 0.0))
    return found


def table(outcomes: list[Outcome]) -> list[str]:
    """Return the lines of a table of all shapes."""
    lines = [
        "| shape | stacks | called a leak | rate within its interval | said after 30 min | said after a day |",
        "|---|---|---|---|---|---|",
    ]
    for shape in SHAPES:
        mine = [outcome for outcome in outcomes if outcome.shape == shape.name]
        if not mine:
            continue
        rates = [outcome.rate_inside for outcome in mine if outcome.rate_inside is not None]
        inside = f"{100 * sum(rates) / len(rates):.1f} % of {len(rates)}" if rates else ""
        called = sum(outcome.called_leak for outcome in mine)
        when = "within 30 min" if shape.leaks else "within a day"
        said = [Counter(outcome.said[at] for outcome in mine if len(outcome.said) > at) for at in (0, 1)]
        words = [", ".join(f"{name} {number}" for name, number in counts.most_common()) for counts in said]
        lines.append(
            f"| {shape.name} | {len(mine)} | {called} = {100 * called / len(mine):.1f} % {when} | {inside} |"
            f" {words[0]} | {words[1]} |"
        )
    return lines


def level_table(levels: list[Level]) -> list[str]:
    """Return the lines of a table of the levels told, by how full the cache was."""
    lines = [
        "| full | caches | said to saturate | said to leak | too few samples | level told | within its 90 % limits |"
        " highest / lowest, median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for share in FILLS:
        mine = [level for level in levels if level.fill == share]
        told = [level for level in mine if level.told]
        saturating, leaking, few = (sum(level.said == name for level in mine) for name in (SATURATING, LEAK, TOO_FEW))
        inside = 100 * sum(level.inside for level in told) / max(1, len(told))
        width = float(np.median([level.width for level in told])) if told else 0.0
        lines.append(
            f"| {100 * share:.0f} % | {len(mine)} | {saturating} | {leaking} | {few} |"
            f" {len(told)} | {inside:.1f} % | {width:.2f} |"
        )
    return lines


def figures(outcomes: list[Outcome], levels: list[Level]) -> dict[str, float]:
    """Return the figures that goals are stated for."""
    leaks = [outcome for outcome in outcomes if outcome.leaks]
    others = [outcome for outcome in outcomes if not outcome.leaks]
    rates = [outcome.rate_inside for outcome in leaks if outcome.rate_inside is not None]
    told = [level for level in levels if level.told]
    return {
        "leaks found within 30 min": sum(outcome.called_leak for outcome in leaks) / max(1, len(leaks)),
        "called a leak within a day that are none": sum(outcome.called_leak for outcome in others)
        / max(1, len(others)),
        "rates within their intervals": sum(rates) / max(1, len(rates)),
        "levels within their limits": sum(level.inside for level in told) / max(1, len(told)),
    }
