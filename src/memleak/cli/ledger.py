"""``memleak ledger``: what the resident memory of a process is, part by part, and what would give it back."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import ledger, locate, query
from ..errors import QueryError
from . import render
from .common import Parser, UsageError, add_name_options, add_target
from .top import named, opened, title

if TYPE_CHECKING:
    from ..ledger import Ledger, Part
    from ..query import Snapshot

SHOWN_FRAMES = 8
_WORDS = {
    "python_objects": "Python's small objects",
    "pymalloc_idle": "Python's arenas, idle",
    "native_live": "native blocks in use",
    "allocator_free": "free, kept by the allocator",
    "mappings": "the program's own mappings",
    "outside": "outside every hooked allocator",
    "files": "programs, libraries, mapped files",
    "stacks": "stacks of threads",
    "shared": "shared memory",
    "tracer": "memleak itself",
    "unexplained": "unexplained",
}


def main(argv: Sequence[str]) -> int:
    """Print the ledger of each recording of a target."""
    parser = Parser(
        "ledger", "Say what the resident memory of a process is, part by part, and what would give it back."
    )
    add_target(parser)
    parser.add_argument("--recorded", action="store_true", help="do not look at the process, only at its recording")
    parser.add_argument("--history", action="store_true", help="also print the looks that the recording keeps")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="show N stacks that pin heaps (3)")
    add_name_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON list, an object per recording")
    options = parser.parse_args(argv)
    if options.n < 0:
        raise UsageError(f"-n {options.n}: a number of stacks, 0 or more")
    pid = locate.pid_of(options.target)
    if options.recorded:
        pid = 0
    with named(options, options.target) as symbolizer:
        whole = opened(options.target, symbolizer)
        each = [
            query.Snapshot(held, symbolizer=symbolizer, alive=[alive])
            for held, alive in zip(whole.recordings, whole.alive)
        ]
        found: list[tuple[Snapshot, Ledger]] = []
        silent: list[str] = []
        for one in each:
            try:
                found.append((one, one.ledger(pid=pid if len(each) == 1 or pid == 0 else None)))
            except QueryError as error:
                if len(each) == 1:
                    raise
                silent.append(f"note: {error}")
        if options.json:
            print(json.dumps([_as_json(snapshot, told) for snapshot, told in found], indent=2))
            return 0
        lines: list[str] = []
        for snapshot, told in found:
            lines += [*([""] if lines else []), *_lines(snapshot, told, options.n)]
            lines += _history(snapshot) if options.history else []
        render.write([*lines, "", *map(render.printable, silent), *render.footer(whole)], sys.stdout)
    return 0


def _lines(snapshot: Snapshot, found: Ledger, stacks: int) -> list[str]:
    source = "measured now" if found.measured else f"as recorded {render.age(max(0.0, time.time() - found.at))} ago"
    lines = [title(snapshot), f"resident: {render.size(found.rss_bytes)}, {source}", ""]
    grown = f"gained in {render.age(found.growth_s)}" if found.growth_s else "gained"
    header = ["part", "bytes", "±", "share", "how", "live by samples", grown]
    rows = [
        _row(part, found.rss_bytes) for part in found.parts if part.bytes or part.name == "unexplained" or part.live
    ]
    lines += render.table(header, rows, left=(0, 4))
    beside = [
        ("live and never touched, so not resident", found.untouched_bytes),
        ("swapped out", found.swapped_bytes),
        ("locked", found.locked_bytes),
        ("page tables of the kernel", found.page_table_bytes),
    ]
    told = [f"{what}: {render.size(value)}" for what, value in beside if value]
    lines += ["", f"beside it: {'; '.join(told)}"] if told else []
    if found.part("mappings").bytes and found.owners:
        names = ", ".join(f"{ledger.file_name(owner.path)} {render.size(owner.bytes)}" for owner in found.owners[:3])
        lines.append(f"mappings asked for by: {names}")
    if found.holders:
        names = ", ".join(f"{ledger.file_name(one.path)} {render.size(one.bytes)}" for one in found.holders[:3])
        lines.append(f"outside: {names}")
    if found.part("unexplained").bytes > found.rss_bytes / 20 and found.outside:
        lines.append(f"out of reach: {', '.join(one.brief for one in found.outside[:3])}")
    lines += ["", f"verdict: {found.verdict.words}", *(f"  * {each}" for each in found.verdict.remedies)]
    if found.trim_gain is not None:
        lines.append(f"malloc_trim(0): {render.size(found.trim_gain)} ± {render.size(found.trim_error)}")
    lines += _pinners(snapshot, stacks)
    return [render.printable(line) for line in [*lines, *(f"note: {note}" for note in found.notes)]]


def _row(part: Part, rss: int) -> list[str]:
    live = "" if part.live is None else render.size(part.live)
    live += f" ± {render.size(part.live_error)}" if part.live and part.live_error else ""
    return [
        _WORDS[part.name], render.size(part.bytes), "-" if part.error is None else render.size(part.error),
        f"{100 * part.bytes / rss:.1f} %" if rss else "-", part.how, live,
        "-" if part.growth is None else f"{'+' if part.growth >= 0 else ''}{render.size(part.growth)}",
    ]  # fmt: skip


def _pinners(snapshot: Snapshot, most: int) -> list[str]:
    pins = snapshot.recordings[0].pins
    rows = snapshot.pinners()[:most]
    if pins is None or not rows or not pins.sparse_regions:
        return []
    lines = [
        "",
        f"who pins the heaps: {pins.sparse_regions} of {pins.regions} regions of {render.size(pins.region_bytes)} are"
        f" less than a quarter live; {render.size(pins.sparse_bytes)} live in them, on pages of about"
        f" {render.size(pins.sparse_occupied_bytes)}",
    ]
    for row, live, pinned in rows:
        lines += [f"  {render.size(live)} live, {render.size(pinned)} pinned:", *render.trace(row, most=SHOWN_FRAMES)]
    return lines


def _history(snapshot: Snapshot) -> list[str]:
    (held,) = snapshot.recordings
    header = [
        "before the end", "resident", "anonymous", "files", "shared", "native live", "Python live", "heap used",
        "heap free",
    ]  # fmt: skip
    end = held.header.end_cs
    rows = [
        [
            render.age(max(0, end - one.cs) / 100), render.size(one.rss_bytes), render.size(one.anonymous_bytes),
            render.size(one.file_bytes), render.size(one.shared_bytes), render.size(one.native_bytes + one.large_bytes),
            render.size(one.python_bytes), *(
                (render.size(one.heap_used_bytes + one.heap_mapped_bytes), render.size(one.heap_free_bytes))
                if one.heap_cs else ("-", "-")
            ),
        ]
        for one in held.ledger
    ]  # fmt: skip
    return ["", *render.table(header, rows, left=())] if rows else ["", "no looks in the recording"]


def _as_json(snapshot: Snapshot, found: Ledger) -> dict[str, Any]:
    told = found._asdict()
    rss = found.rss_bytes or 1
    told["parts"] = {part.name: {**part._asdict(), "share": part.bytes / rss} for part in found.parts}
    told["outside"] = [one._asdict() for one in found.outside]
    told["holders"] = [one._asdict() for one in found.holders]
    told["owners"] = [one._asdict() for one in found.owners]
    told["verdict"] = found.verdict._asdict()
    told["pins"] = None if found.pins is None else {
        **found.pins._asdict(),
        "rows": [
            {"live_bytes": live, "pinned_bytes": pinned, "back_trace": row.back_trace, "trace": list(row.trace)}
            for row, live, pinned in snapshot.pinners()
        ],
    }  # fmt: skip
    told["unexplained_share"] = found.unexplained_share
    told["history"] = [one._asdict() for one in snapshot.recordings[0].ledger]
    told["pid"] = snapshot.recordings[0].header.pid
    told["footer"] = snapshot.footer()
    return told
