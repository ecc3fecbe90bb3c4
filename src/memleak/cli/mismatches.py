"""``memleak mismatches``: blocks that were freed another way than they were allocated."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import render
from .common import Parser, add_symbol_options, add_target
from .top import as_json as row_as_json
from .top import named, opened, title

if TYPE_CHECKING:
    from ..mismatches import Mismatch

SHOWN_FRAMES = 20


def main(argv: Sequence[str]) -> int:
    """Print the mismatches of a target."""
    parser = Parser(
        "mismatches", "Show sampled blocks that were freed another way than they were allocated, with both stacks."
    )
    add_target(parser)
    parser.add_argument("--all", action="store_true", help="also those that may be none, for want of names, and why")
    add_symbol_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: mismatches and footer")
    options = parser.parse_args(argv)
    with named(options, options.target) as symbolizer:
        _show(options, symbolizer)
    return 0


def _show(options: Any, symbolizer: Any) -> None:
    snapshot = opened(options.target, symbolizer)
    every = snapshot.mismatches(undecided=True)
    found = [one for one in every if options.all or not one.undecided]
    if options.json:
        print(json.dumps({"mismatches": [as_json(one) for one in found], "footer": snapshot.footer()}, indent=2))
        return
    lines = [title(snapshot), ""]
    for number, one in enumerate(found, 1):
        lines += [*_one(number, one), ""]
    if not found:
        lines += ["no mismatch among the sampled blocks", ""]
    if len(found) < len(every):
        lines += [f"{len(every) - len(found)} undecided: --all shows them, and what is missing", ""]
    render.write([*lines, *render.footer(snapshot)], sys.stdout)


def _one(number: int, one: Mismatch) -> list[str]:
    times = f"{render.plural(one.samples, 'sampled block')}, {_in_all(one)}"
    lines = [f"#{number}  {render.printable(one.what)}  ({one.kind}; {times}; pid {one.pid})"]
    if one.undecided:
        lines.append(f"  undecided: {render.printable(one.undecided)}")
    lines += [f"  allocated, {render.size(one.size_bytes)}:", *render.trace(one.allocated, most=SHOWN_FRAMES)]
    to = f" to pool {render.printable(one.freed_to)}" if one.freed_to else ""
    size = "" if one.freed_bytes is None else f", as {render.size(one.freed_bytes)}"
    thread = f" by thread {one.tid}" if one.tid else ""
    lines.append(f"  freed{to}{size}{thread}:")
    lines += ["    " + render.printable(line) for line in one.freed_trace[:SHOWN_FRAMES]]
    if len(one.freed_trace) > SHOWN_FRAMES:
        lines.append(f"    … {len(one.freed_trace) - SHOWN_FRAMES} more")
    return lines


def _in_all(one: Mismatch) -> str:
    """Return for how many blocks the sampled ones stand."""
    if one.est_count_low is None or one.est_count_high is None:
        return f"about {render.plural(one.est_count, 'block')} in all, no interval"
    if one.est_count_low == one.est_count_high:
        return f"{render.plural(one.est_count, 'block')} in all"
    low, high = render.count(one.est_count_low), render.count(one.est_count_high)
    return f"about {render.plural(one.est_count, 'block')} in all, {low} … {high}"


def as_json(one: Mismatch) -> dict[str, Any]:
    """Return a mismatch by name."""
    found = one._asdict()
    found["allocated"] = row_as_json(one.allocated, None)
    found["freed_trace"] = list(one.freed_trace)
    found["freed_frames"] = [frame._asdict() for frame in one.freed_frames]
    return found
