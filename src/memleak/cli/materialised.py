"""Results that are in memory twice, below the stacks of ``memleak verdict``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..materialised import NOW
from . import render
from .top import as_json as row_as_json

if TYPE_CHECKING:
    from ..estimate import Estimate
    from ..materialised import Materialised, Side


def lines(found: Sequence[Materialised], most: int) -> list[str]:
    """Return a finding for each result, with the stacks that hold most of it."""
    lines = []
    for one in found[:most]:
        under = render.printable(", ".join(f"{name}={value}" for name, value in one.labels))
        when = "now" if one.when == NOW else f"at their peaks, {abs(one.apart_s):.1f} s apart"
        lines += [
            "",
            f"in memory twice: under {under} the client library ({one.client}) holds {_amount(one.driver_bytes)} of"
            f" rows and Python's objects {_amount(one.python_bytes)}, {when}",
            f"    {one.advice}",
            *(f"    {name}: {render.printable(render.name_of(side.row))}" for name, side in _sides(one)),
        ]
    return lines


def _sides(one: Materialised) -> list[tuple[str, Side]]:
    return [("client", one.driver), ("Python", one.python)]


def _amount(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{render.size(found.value)} (no interval)"
    if found.low == found.high:
        return render.size(found.value)
    return f"{render.size(found.value)} [{render.size(found.low)}, {render.size(found.high)}]"


def as_json(found: Materialised) -> dict[str, Any]:
    """Return a finding by name; `driver_bytes` and `python_bytes` are as of `when`."""
    return {
        **found._asdict(),
        "labels": dict(found.labels),
        "driver_bytes": found.driver_bytes._asdict(),
        "python_bytes": found.python_bytes._asdict(),
        **{
            name: {"now": side.now._asdict(), "peak": side.peak._asdict(), "row": row_as_json(side.row, None)}
            for name, side in (("driver", found.driver), ("python", found.python))
        },
    }
