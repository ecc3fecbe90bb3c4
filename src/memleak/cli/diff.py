"""``memleak diff``: what became of each stack between two recordings, of one process or of two versions."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import locate
from ..comparison import MATCHES, ORDERS, Changes
from ..mixing import summary
from . import render
from .common import Parser, add_name_options, positive
from .top import SHOWN_FRAMES, named, opened, title

if TYPE_CHECKING:
    from ..query import Snapshot
    from ..rows import DiffRow

UNLIKE, UNLIKE_S = 1.2, 1.0  # so many times as long, and seconds longer: it has grown more for that alone


def main(argv: Sequence[str]) -> int:
    """Print the changes from one target to another."""
    parser = Parser("diff", "Show what became of each stack from OLDER to NEWER: what grew first, then what shrank.")
    what = "a pid, a recording, a bundle, or a directory of recordings"
    parser.add_argument("older", metavar="OLDER", help=what)
    parser.add_argument("newer", metavar="NEWER", help="the same; a later time, or another version")
    parser.add_argument("-n", type=positive, default=10, metavar="N", help="stacks to show, grown and shrunk each (10)")
    parser.add_argument("--by", default=ORDERS[0], metavar="COLUMN", help=f"sort by this column ({ORDERS[0]})")
    parser.add_argument(
        "--match", choices=MATCHES, default=MATCHES[0],
        help="what is the same stack: the same places of the same builds, or functions of the same names (place)",
    )  # fmt: skip
    add_name_options(parser)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object: rows, shrunk, total, stacks, both footers"
    )
    options = parser.parse_args(argv)
    with _opened(options) as (older, newer):
        changes = newer.diff(older, match=options.match).sorted_by(options.by)
        first, last = _chosen(changes, options.by, options.n)
        if options.json:
            print(json.dumps(_as_json(older, newer, changes, first, last, options.match), indent=2))
        else:
            render.write(_lines(older, newer, changes, first, last, options.match), sys.stdout)
    return 0


@contextmanager
def _opened(options: Any) -> Iterator[tuple[Snapshot, Snapshot]]:
    """Open both; binaries of processes of one root are read by one symbolizer."""
    with named(options, options.older) as symbolizer:
        older = opened(options.older, symbolizer)
        if options.sysroot or locate.root_of(options.older) == locate.root_of(options.newer):
            yield older, opened(options.newer, symbolizer)
            return
        with named(options, options.newer) as other:
            yield older, opened(options.newer, other)


def _chosen(changes: Changes, by: str, n: int) -> tuple[list[DiffRow], list[DiffRow]]:
    """Return the first rows, and where these are what grew also what shrank, the most first."""
    if not by.startswith("diff_"):
        return list(changes[:n]), []
    last = list(changes[: -n - 1 : -1])
    return (
        [row for row in changes[:n] if getattr(row, by) > 0],
        [row for row in last if getattr(row, by) < 0],
    )  # fmt: skip


def _lines(
    older: Snapshot, newer: Snapshot, changes: Changes, first: list[DiffRow], last: list[DiffRow], match: str
) -> list[str]:
    lines = [f"older: {title(older)}", f"newer: {title(newer)}", *_notes(older, newer, changes)]
    counts, total = changes.counts, changes.total
    both = render.plural(counts["both"], "stack")
    exact = not (older.exact_reasons() or newer.exact_reasons())
    lines += [
        f"matched by {match}: {both} in both, {counts['new']} new, {counts['gone']} gone",
        f"all together: {_signed(total.value)} ({_limits(total.low, total.high, exact)})",
        "",
    ]
    lines += _table(first, changes) if first else ["nothing has grown"]
    lines += ["", "what shrank:", *_table(last, changes)] if last else []
    lines += [""] if first else []
    for number, row in enumerate(first, 1):
        lines += [f"#{number}  {_signed(row.diff_est_bytes)}  {_under(row)}", *_trace(row)]
    lines += ["", "of the older:", *render.footer(older), "", "of the newer:", *render.footer(newer)]
    problems = {**older.symbol_problems(), **newer.symbol_problems()}
    return lines + [f"symbols: {render.printable(path)}: {why}" for path, why in problems.items()]


def _notes(older: Snapshot, newer: Snapshot, changes: Changes) -> list[str]:
    """Say what the two have in common."""
    seconds = changes.seconds
    if seconds is not None:
        swapped = f"{render.age(-seconds)} EARLIER: OLDER and NEWER are swapped"
        when = f"{render.age(seconds)} later" if seconds >= 0 else swapped
        return [f"one process, {when}: samples that are live in both cancel out"]
    before, now = (max(one.header.duration_s for one in snapshot.recordings) for snapshot in (older, newer))
    if max(before, now) > UNLIKE * min(before, now) + UNLIKE_S:
        return ["note: recorded for different times: what grows by itself differs for that alone"]
    return []


def _table(rows: Sequence[DiffRow], changes: Changes) -> list[str]:
    seconds = changes.seconds
    header = ["#", "est_bytes", "95 % interval", "older", "newer", "est_count", *(["per min"] if seconds else []), ""]
    lines = [
        [
            str(number), _signed(row.diff_est_bytes), _row_interval(row), render.size(row.older_est_bytes),
            render.size(row.est_bytes), f"{row.diff_est_count:+,d}",
            *([_signed(60 * (row.diff_bytes_per_s or 0))] if seconds else []), row.status or "", row.mod_name or "-",
            render.printable(summary(row.frames) or (row.trace[0] if row.trace else row.back_trace or "(no stack)")),
        ]
        for number, row in enumerate(rows, 1)
    ]  # fmt: skip
    last = len(header)
    return render.table([*header, "mod_name", "innermost frame"], lines, left=(last - 1, last, last + 1))


def _under(row: DiffRow) -> str:
    words = [row.mod_name or "several", *([row.status] if row.status else [])]
    labels = [render.printable(render.labels(row))] if row.labels else []
    return f"({_row_interval(row)}; {'; '.join([*words, *labels])})"


def _trace(row: DiffRow) -> list[str]:
    more = [f"… {len(row.trace) - SHOWN_FRAMES} more"] if len(row.trace) > SHOWN_FRAMES else []
    return [f"    {render.printable(line)}" for line in [*row.trace[:SHOWN_FRAMES], *more]]


def _row_interval(row: DiffRow) -> str:
    return _limits(row.diff_est_bytes_low, row.diff_est_bytes_high, row.exact)


def _limits(low: int | None, high: int | None, exact: bool) -> str:
    if exact:
        return "exact"
    return "no interval" if low is None or high is None else f"{_signed(low)} … {_signed(high)}"


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{render.size(abs(value))}"


def _as_json(
    older: Snapshot, newer: Snapshot, changes: Changes, first: list[DiffRow], last: list[DiffRow], match: str
) -> dict[str, Any]:
    return {
        "match": match,
        "seconds": changes.seconds,
        "stacks": changes.counts,
        "total": changes.total._asdict(),
        "rows": [_row_json(row) for row in first],
        "shrunk": [_row_json(row) for row in last],
        "older": {"title": title(older), "footer": older.footer()},
        "newer": {"title": title(newer), "footer": newer.footer()},
    }


def _row_json(row: DiffRow) -> dict[str, Any]:
    return {**dict(zip(row.columns(), row.values())), "frames": [frame._asdict() for frame in row.frames]}
