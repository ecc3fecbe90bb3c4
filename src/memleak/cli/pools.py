"""``memleak pools``: the program's own allocators."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import render
from .common import Parser, add_name_options, add_target, positive
from .top import answered, title
from .top import as_json as row_as_json

if TYPE_CHECKING:
    from ..pools import PoolUse, RegionUse
    from ..query import Snapshot
    from ..rows import Row

SHOWN_FUNCTIONS = 4


def main(argv: Sequence[str]) -> int:
    """Print the pools of a target."""
    parser = Parser(
        "pools", "Show the program's own allocators: capacity, what is used of it, and what keeps the emptiest regions."
    )
    add_target(parser)
    parser.add_argument(
        "-n", type=positive, default=5, metavar="N", help="regions to show of each pool, the emptiest first (5)"
    )
    add_name_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: pools and footer")
    return answered(parser, argv, _show)


def _show(options: Any, snapshot: Snapshot) -> None:
    found = snapshot.pools()
    if options.json:
        print(json.dumps({"pools": [as_json(use) for use in found], "footer": snapshot.footer()}, indent=2))
        return
    lines = [title(snapshot), ""]
    lines += _table(found) if found else ["the program has told of no pools: docs/reference/pools.md says how"]
    for use in found:
        lines += _regions(use, options.n)
    lines += ["", *render.footer(snapshot)]
    render.write(lines, sys.stdout)


def _table(found: Sequence[PoolUse]) -> list[str]:
    header = ["pool", "pid", "regions", "capacity", "est. used", "95 % interval", "idle", "share", "blocks", "samples"]
    lines = [
        [
            render.printable(use.name), str(use.pid), render.count(use.regions), render.size(use.capacity_bytes),
            render.size(use.est_bytes), _interval(use), "-" if use.idle_bytes is None else render.size(use.idle_bytes),
            "-" if use.idle_share is None else f"{100 * use.idle_share:.0f} %", render.count(use.est_count),
            render.count(use.samples),
        ]
        for use in found
    ]  # fmt: skip
    return render.table(header, lines)


def _interval(use: PoolUse) -> str:
    if use.est_bytes_low is None or use.est_bytes_high is None:
        return "no interval"
    if use.est_bytes_low == use.est_bytes_high:
        return "exact"
    return f"{render.size(use.est_bytes_low)} … {render.size(use.est_bytes_high)}"


def _regions(use: PoolUse, most: int) -> list[str]:
    if not use.use:
        return []
    lines = ["", f"{render.printable(use.name)} (pid {use.pid}): {_summary(use)}"]
    for region in [one for one in use.use if one.samples][:most]:
        lines.append(f"  {_region(region)}")
        for pin in region.pins:
            where = render.printable(" < ".join(_brief(pin.row)))
            lines.append(f"    {render.size(pin.est_bytes):>10}  {render.plural(pin.samples, 'sample')}  {where}")
    return lines


def _brief(row: Row) -> list[str]:
    """Return the innermost functions of a row: the first is often the pool's own."""
    names = [frame.function for frame in row.frames[:SHOWN_FUNCTIONS]]
    return [name for name in names if name] or [render.name_of(row)]


def _summary(use: PoolUse) -> str:
    empty = use.regions_without_samples
    words = f"{empty} of {render.plural(len(use.use), 'region')} without a live sample"
    outside = f"; {render.size(use.outside_bytes)} in no region that is known" if use.outside_bytes else ""
    return words + outside + ("; the emptiest of the others, and what is in them:" if empty < len(use.use) else "")


def _region(region: RegionUse) -> str:
    share = 100 * region.est_bytes / region.bytes if region.bytes else 0.0
    held = f"{render.size(region.est_bytes)} of {render.size(region.bytes)} used ({share:.0f} %)"
    return f"region {region.number}: {held}, {render.plural(region.samples, 'sample')}"


def as_json(use: PoolUse) -> dict[str, Any]:
    """Return a pool by name, its regions and what is in them too."""
    found = use._asdict()
    found["regions_without_samples"] = use.regions_without_samples
    found["use"] = [
        {
            **{name: value for name, value in region._asdict().items() if name != "pins"},
            "pins": [
                {"est_bytes": pin.est_bytes, "samples": pin.samples, **row_as_json(pin.row, None)}
                for pin in region.pins
            ],
        }
        for region in use.use
    ]
    return found
