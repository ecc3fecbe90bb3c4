"""What calls leave behind, below the stacks of ``memleak verdict``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import render

if TYPE_CHECKING:
    from ..estimate import Estimate
    from ..percall import PerCall


def lines(found: Sequence[PerCall], most: int, everything: bool) -> list[str]:
    """Return the findings as sentences, and a table of them, of all sets of labels if *everything*; at most *most*."""
    shown = [one for one in found if one.finding or everything][:most]
    if not shown:
        return []
    lines = ["", "per call, by how it ended (labels with outcome=True):"]
    lines += [f"  {one.kind}: {render.printable(one.finding)}" for one in shown if one.finding]
    header = ["labels", "outcome", "calls", "live bytes", "per call", "95 % interval", "growth per call", "stacks"]
    cells = [
        [
            render.printable(", ".join(f"{name}={value}" for name, value in one.labels)) or "(no others)",
            render.printable(ended.outcome), render.count(ended.calls), render.size(ended.est_bytes.value),
            _value(ended.per_call), _interval(ended.per_call), _value(ended.growth_per_call),
            ", ".join(f"{number} {verdict}" for verdict, number in ended.verdicts.items()) or "-",
        ]
        for one in shown
        for ended in one.ended
    ]  # fmt: skip
    return lines + ["  " + line for line in render.table(header, cells, left=(0, 1, 7))]


def _interval(found: Estimate | None) -> str:
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return "no interval"
    return "exact" if found.low == found.high else f"{render.size(found.low)} … {render.size(found.high)}"


def _value(found: Estimate | None) -> str:
    return "-" if found is None else render.size(found.value)


def as_json(found: PerCall) -> dict[str, Any]:
    """Return a set of labels by name."""
    return {
        "labels": dict(found.labels),
        "kind": found.kind,
        "finding": found.finding,
        "ended": [
            {name: value._asdict() if hasattr(value, "_asdict") else value for name, value in one._asdict().items()}
            for one in found.ended
        ],
    }
