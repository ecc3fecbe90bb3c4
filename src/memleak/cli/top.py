"""``memleak top``: the stacks that hold the most memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from .. import locate, query
from ..rows import ALIASES, COLUMNS
from . import render
from .common import Parser, add_stack_options, add_target, conditions, positive

if TYPE_CHECKING:
    from ..query import Snapshot

SHOWN_FRAMES = 20
GROUPS_HELP = (
    "stack, function, file, module, python_function, python_file, python_line, mod_name, thread, or label:NAME"
)
LIVE = ("est_bytes", "est_count", "alloc_bytes", "alloc_count", "samples")  # sorted by these, empty rows say nothing


def main(argv: Sequence[str]) -> int:
    """Print the top rows of a target."""
    parser = Parser("top", "Show the stacks that hold the most memory: estimates first, then the traces.")
    add_target(parser)
    parser.add_argument("-n", type=positive, default=10, metavar="N", help="rows to show (10)")
    by_help = "sort by this column (est_bytes); growth: what grows fastest"
    parser.add_argument("--by", default="est_bytes", metavar="COLUMN", help=by_help)
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="keep only these rows")
    parser.add_argument("--group-by", metavar="KEY", help=GROUPS_HELP)
    add_stack_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: rows and footer")
    options = parser.parse_args(argv)

    where = {name: typed(name, value) for name, value in conditions(options.where).items()}
    with named(options, options.target) as symbolizer:
        _show(options, where, symbolizer)
    return 0


def _show(options: Any, where: dict[str, Any], symbolizer: Any) -> None:
    snapshot = opened(options.target, symbolizer)
    rows = snapshot.top(
        options.n, by=options.by, where=where or None, group_by=options.group_by, side=options.side
    )
    by_growth = ALIASES.get(options.by, options.by) == "growth_bytes_per_s"
    if options.by in LIVE:
        rows = render.holding(rows)
    elif by_growth:
        rows = [row for row in rows if row.growth_bytes_per_s is not None]
    if options.json:
        answer = {"rows": [as_json(row, options.group_by) for row in rows], "footer": snapshot.footer()}
        print(json.dumps(answer, indent=2))
        return
    lines = [f"{title(snapshot)}", ""]
    nothing = "nothing is known to grow: memleak verdict --all has the reasons" if by_growth else "no live samples"
    lines += render.top_table(rows, options.group_by, growth=by_growth) if rows else [nothing]
    if options.group_by in (None, "stack"):
        lines += ["", *render.stacks(rows, most=SHOWN_FRAMES)]
    lines += ["", *render.footer(snapshot)]
    lines += [f"symbols: {render.printable(path)}: {why}" for path, why in snapshot.symbol_problems().items()]
    render.write(lines, sys.stdout)


def answered(parser: Parser, argv: Sequence[str], show: Callable[[Any, Snapshot], None]) -> int:
    """Parse the words, open their target and show it; return the status."""
    options = parser.parse_args(argv)
    with named(options, options.target) as symbolizer:
        show(options, opened(options.target, symbolizer))
    return 0


def named(options: Any, target: str) -> Any:
    """Return a symbolizer that looks where the options say, else where the target's files are; None for no names."""
    if getattr(options, "no_symbols", False):
        return nullcontext()
    from .binaries import confined, sources

    root = options.sysroot or locate.root_of(target)
    return confined(root, sources(options))


def opened(target: str, symbolizer: Any) -> Snapshot:
    """Open a target; without a symbolizer, a bundle's own names are not shown either."""
    snapshot = query.open(target, symbolizer=symbolizer)
    return snapshot if symbolizer is not None else snapshot.with_symbolizer(None)


def typed(name: str, text: str) -> Any:
    """Return a condition's value in the type of its column; text when it has none."""
    kind = COLUMNS.get(name, str)
    try:
        if kind is bool:
            return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        from ..errors import QueryError

        raise QueryError(f"--where {name}={text}: the column holds {kind.__name__} values") from None


def as_json(row: Any, group_by: str | None) -> dict[str, Any]:
    """Return a row by column name; one stack also has its frames, grouped rows say their group."""
    found = dict(zip(row.columns(), row.values()))
    if group_by is not None:
        found["group"] = row.group
    if group_by in (None, "stack"):
        found["frames"] = [frame._asdict() for frame in row.frames]
    return found


def title(snapshot: Any) -> str:
    """Return whose memory this is, in one line."""
    recordings = snapshot.recordings
    header = recordings[0].header
    alive = sum(snapshot.alive)
    if len(recordings) > 1:
        return f"{len(recordings)} recordings, {alive} of running processes"
    state = "running" if alive else "ended"
    return render.printable(
        f"{header.command} (pid {header.pid} on {header.host_name}), {state}, recorded {render.age(header.duration_s)}"
    )
