"""``memleak postmortem``: what a process that has ended held, how near to its limit it was, and how it came there."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import bundle, layout, ledger, query, recording, remains
from ..evidence import Evidence
from ..locate import Found
from ..recording import Recording
from . import render
from .common import Parser, add_name_options, positive
from .ps import NEAR
from .ps import state as state_of
from .status import limit_facts
from .top import SHOWN_FRAMES, as_json, named

SHOWN_GROWN = 5
SHOWN_THREADS = 3
KILLED = (
    "it did not leave through exit(): a signal killed it, as the kernel does when memory runs out, or it crashed, or"
    " left by _exit()"
)
OUT_OF_SIGHT = "its process is of another container or machine: whether it has ended cannot be told from here"
_BARS = "▁▂▃▄▅▆▇█"
_KERNEL_KILLS = (layout.LIMIT_CGROUP, layout.LIMIT_MACHINE)


def main(argv: Sequence[str]) -> int:
    """Print what is left of a process."""
    parser = Parser("postmortem", "Say what became of a process that has ended, what it held then, and how that grew.")
    parser.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="a recording, a directory of them, or the pid of a process that has ended; without, the last that ended",
    )
    parser.add_argument("-n", type=positive, default=5, metavar="N", help="stacks to show (5)")
    add_name_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object with everything")
    options = parser.parse_args(argv)
    if options.target is not None and bundle.is_bundle(options.target):
        left, bundled = remains.in_bundle(Path(options.target))
        held = next(one for one in bundled.recordings if one.header is left[0].header)
        with named(options, options.target) as symbolizer:
            _show(options, left, held, None if symbolizer is None else bundled.names(symbolizer))
        return 0
    left = remains.find(options.target)
    held = recording.load(left[0].path)
    with named(options, str(left[0].path)) as symbolizer:
        _show(options, left, held, symbolizer)
    return 0


def _show(options: Any, left: Sequence[Found], held: Recording, symbolizer: Any) -> None:
    found = left[0]
    snapshot = query.Snapshot(held, symbolizer=symbolizer, alive=[False])
    top = snapshot.evidence(options.n)
    grown = snapshot.evidence(options.n, by="grown")
    threads = render.holding(snapshot.top(options.n, group_by="thread"))
    if options.json:
        answer = {
            **_facts(found, held),
            "rows": [_evidence_json(one) for one in top],
            "grown": [{**_evidence_json(one), "grown_bytes": one.grown} for one in grown],
            "threads": [as_json(row, "thread") for row in threads],
            "others": [str(other.path) for other in left[1:]],
            "footer": snapshot.footer(),
        }
        print(json.dumps(answer, indent=2))
        return
    lines = _fate(found, held)
    lines += _marks(held)
    lines += ["", "held at the end, by stack:", *_stacks(top)] if top else ["", "held at the end: no live samples"]
    lines += _grown(held, grown)
    lines += ["", "by thread:", *render.top_table(threads, "thread")] if len(threads) > 1 else []
    lines += ["", *render.footer(snapshot), f"recording: {render.printable(str(found.path))}"]
    if len(left) > 1:
        more = f" {options.target}" if options.target else ""
        lines.append(f"{render.plural(len(left) - 1, 'more recording')} of ended processes: memleak ps --dead{more}")
    lines += [f"symbols: {render.printable(path)}: {why}" for path, why in snapshot.symbol_problems().items()]
    render.write(lines, sys.stdout)


# ---- what became of it ---------------------------------------------------------------------------------


def _facts(found: Found, held: Recording) -> dict[str, Any]:
    """Return what is known of the process, by name; times in seconds since the epoch."""
    header = found.header
    known = ledger.of(held, alive=False)
    return {
        "recording": str(found.path),
        "pid": header.pid,
        "command": header.command,
        "host": header.host_name,
        "state": state_of(found),
        "began": header.started_at,
        "ended": header.started_at + header.duration_s,
        "recorded_s": header.duration_s,
        "last_sampled_call": header.started_at + header.heartbeat_cs / 100,
        "est_bytes": round(held.total_est_bytes),
        "limit": limit_facts(header),
        "verdict": known.verdict._asdict() if known else None,
        "marks": [
            {
                **{name: value for name, value in mark._asdict().items() if name not in ("cs", "rows", "limit_kind")},
                "kind": mark.limit_name,
                "time": header.started_at + mark.cs / 100,
                "largest_bytes": [value for _, value in mark.rows],
            }
            for mark in held.marks
        ],
    }


def _fate(found: Found, held: Recording) -> list[str]:
    header = found.header
    state = state_of(found)
    ended = {"running, copy": "running", "other namespace": "out of sight"}.get(state, state)
    lines = [
        f"{header.command} (pid {header.pid} on {header.host_name}): {ended}, recorded {render.age(header.duration_s)}",
        f"began     {_moment(header.started_at)}",
        f"last seen {_moment(header.started_at + header.duration_s)}{_heartbeat(held)}",
    ]
    if state == "killed":
        lines.append(f"end       {KILLED}")
    elif state == "other namespace":
        lines.append(f"end       {OUT_OF_SIGHT}")
    elif state == "running, copy":
        pid = found.pid_here
        lines.append(f"end       none: process {pid} is running, this is a copy; memleak top {pid} shows it now")
    elif state == "stopped":
        lines.append("end       memleak.stop() ended the recording; the process went on")
    else:
        lines.append("end       it left through exit()")
    lines += _limit(found, held, state)
    known = ledger.of(held, alive=False)
    lines += [f"memory    {known.verdict.words}"] if known else []
    return [render.printable(line) for line in lines]


def _heartbeat(held: Recording) -> str:
    header = held.header
    before_s = (header.end_cs - header.heartbeat_cs) / 100
    return f" (its last sampled call was {before_s:.1f} s before)" if before_s >= 1 else ""


def _limit(found: Found, held: Recording, state: str) -> list[str]:
    header = held.header
    live = f"held      {render.size(held.total_est_bytes)} estimated live"
    if not header.limit_seen_cs:
        return [f"{live}; how near to a limit it was is not recorded"]
    before_s = max(0, header.end_cs - header.limit_seen_cs) / 100
    when = "" if before_s < 2 else f", {render.age(before_s)} before the end"
    lines = [f"{live}; {render.size(header.rss_bytes)} resident{when}"]
    share = header.limit_share
    if share is None:
        return [*lines, "limit     none that is known"]
    line = f"limit     {render.size(header.limit_bytes)} ({header.limit_name}): {100 * share:.0f} % used{when}"
    nearest = max([share, *(mark.used_bytes / mark.limit_bytes for mark in held.marks[-1:] if mark.limit_bytes)])
    if state == "killed" and nearest >= NEAR and header.limit_kind in _KERNEL_KILLS:
        line += "; this near to it the kernel's OOM killer is the likely cause"
    return [*lines, line]


def _moment(when: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    except (OverflowError, OSError, ValueError):
        return "at a time that no clock shows"  # a damaged file


# ---- how it came there ---------------------------------------------------------------------------------


def _marks(held: Recording) -> list[str]:
    if not held.marks:
        return []
    rows = [
        [
            _moment(held.header.started_at + mark.cs / 100), f"{mark.level_percent} %", render.size(mark.used_bytes),
            f"of {render.size(mark.limit_bytes)}", render.size(mark.rss_bytes), render.size(mark.live_bytes),
        ]
        for mark in held.marks
    ]  # fmt: skip
    return ["", *render.table(["NEAR THE LIMIT", "PASSED", "USED", "LIMIT", "RESIDENT", "EST LIVE"], rows)]


def _stacks(top: Sequence[Evidence]) -> list[str]:
    lines: list[str] = []
    for number, one in enumerate(top, 1):
        head, *trace = render.stacks([one.row], most=SHOWN_FRAMES)
        lines += [head.replace("#1", f"#{number}", 1), *_past(one), *trace]
    return lines


def _past(one: Evidence) -> list[str]:
    values = [*(value for _, value in one.history), one.row.est_bytes]
    words = [f"{render.age(before)} before {render.size(value)}" for before, value in one.history]
    words.append(f"at the end {render.size(one.row.est_bytes)}")
    lines = [f"    growth: {', '.join(words)}  {sparkline(values)}"] if one.history else []
    fast = f", {render.speed(one.row)}" if one.row.growth_bytes_per_s is not None else ""
    lines.append(f"    verdict: {one.row.verdict or 'none'}{fast}")
    whole = sum(thread.est_bytes for thread in one.threads)
    if whole:
        shares = [f"{thread.group} {100 * thread.est_bytes / whole:.0f} %" for thread in one.threads[:SHOWN_THREADS]]
        shares += [f"{len(one.threads) - SHOWN_THREADS} more"] if len(one.threads) > SHOWN_THREADS else []
        lines.append(f"    asked for by: {', '.join(shares)}")
    return [render.printable(line) for line in lines]


def sparkline(values: Sequence[int | None]) -> str:
    """Return one bar for each value, the largest the highest; a blank for what is not known."""
    most = max((value for value in values if value), default=0)
    if not most:
        return ""
    return "".join(" " if value is None else _BARS[min(7, max(0, value) * 8 // most)] for value in values)


def _grown(held: Recording, grown: Sequence[Evidence]) -> list[str]:
    if not grown:
        return []
    marks = [f"AT {mark.level_percent} %" for mark in held.marks]
    header = ["GREW SINCE THE FIRST MARK", *marks, "AT THE END", "GROWTH AT THE END", "VERDICT", ""]
    rows = [
        [
            f"+{render.size(one.grown)}", *(render.size(value) for value in one.marks), render.size(one.row.est_bytes),
            render.speed(one.row), one.row.verdict or "-", render.printable(render.name_of(one.row)),
        ]
        for one in grown[:SHOWN_GROWN]
    ]  # fmt: skip
    return ["", *render.table(header, rows, left=(0, len(header) - 2, len(header) - 1))]


def _evidence_json(one: Evidence) -> dict[str, Any]:
    return {
        **as_json(one.row, None),
        "history": [{"before_s": before, "bytes": value} for before, value in one.history],
        "marks": list(one.marks),
        "threads": [
            {"thread": thread.group, "est_bytes": thread.est_bytes, "samples": thread.samples} for thread in one.threads
        ],
    }
