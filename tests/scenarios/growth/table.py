"""What was found of scenarios, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from running import Outcome
from truth import Scenario

HEAD = ("scenario", "expected", "found", "line: true, blamed", "rate: true, found", "level: true, found")


def lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a table in Markdown."""
    rows = [HEAD, tuple("---" for _ in HEAD), *map(_row, outcomes)]
    pools = [line for one in outcomes if one.pool for line in _pool(one)]
    return [*("| " + " | ".join(row) + " |" for row in rows), *pools]


def _pool(outcome: Outcome) -> list[str]:
    """Return what was found of a program's own allocator, in a sentence."""
    found, true = outcome.pool, outcome.scenario.pool
    return [
        "",
        f"{outcome.scenario.name}: of the pool {100 * found['true_idle_share']:.1f} % are idle,"
        f" {100 * found['idle_share']:.1f} % found, kept by {outcome.scenario.source.name}:{true.pins};"
        f" {found['true_mismatches']:.0f} mismatched frees, {found['mismatches']:.0f} found,"
        f" of what was allocated at line {true.allocated}, at line {true.freed}",
    ]


def _row(outcome: Outcome) -> tuple[str, ...]:
    scenario = outcome.scenario
    place = scenario.place if scenario.leaks else "none"
    blamed = ", ".join(_named(scenario, line) for line in outcome.blamed) or "none"
    rate = level = ""
    if scenario.rate is not None:
        rate = f"{size(scenario.rate)}/s, {interval(outcome.rate, '/s')}"
    elif scenario.least is not None:
        rate = f"at least {size(scenario.least)}/s, {interval(outcome.rate, '/s')}"
    if scenario.level is not None or outcome.level is not None:
        level = f"{'not stated' if scenario.level is None else size(scenario.level)}, {interval(outcome.level)}"
    if scenario.above is not None:
        level += f"; above the limit: {size(scenario.above)}, {size(outcome.above)}"
    mark = " (wrong)" if outcome.wrong else ""
    return (
        scenario.name, " or ".join(scenario.verdicts), outcome.found + mark,
        f"{place}, {blamed}" if scenario.leaks or outcome.blamed else "none", rate, level,
    )  # fmt: skip


def _named(scenario: Scenario, line: int | None) -> str:
    """Return what a blamed line is called."""
    if line == scenario.line and scenario.leaks:
        return "the same"
    if line in scenario.with_it:
        return f"{line} with it"
    return "elsewhere" if line is None else f"{scenario.source.name}:{line}"


def interval(said: dict[str, Any] | None, unit: str = "") -> str:
    """Return a value with its limits."""
    if said is None:
        return "none"
    if said["low"] == said["high"]:
        return size(said["value"]) + unit
    return f"{size(said['value'])}{unit} [{size(said['low'])}, {size(said['high'])}]"


def size(value: float | None) -> str:
    """Return bytes with three digits."""
    if value is None or value == float("inf"):
        return "none"
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.3g} B"


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return all of it."""
    return [
        {
            "scenario": one.scenario.name, "mode": one.mode, "expected": one.scenario.verdicts, "found": one.found,
            "line": one.scenario.place, "blamed_lines": one.blamed,
            "true_rate": one.scenario.rate or one.scenario.least, "rate": one.rate,
            "true_level": None if one.scenario.level == float("inf") else one.scenario.level, "level": one.level,
            "true_above": one.scenario.above, "above": one.above,
            "samples": one.samples, "pool": one.pool, "lost": one.lost, "wrong": one.wrong,
        }
        for one in outcomes
    ]  # fmt: skip
