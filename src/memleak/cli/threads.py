"""``memleak threads``: what each thread was last seen at."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import render
from .common import Parser, add_stack_options, add_target
from .top import answered, title

if TYPE_CHECKING:
    from ..query import Snapshot
    from ..threads import ThreadSample

SHOWN_FRAMES = 20


def main(argv: Sequence[str]) -> int:
    """Print the threads of a target."""
    parser = Parser("threads", "Show each thread's last sampled stack and labels, and how long ago that was.")
    add_target(parser)
    parser.add_argument("--list", action="store_true", help="one line a thread, no stacks")
    add_stack_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: threads and footer")
    return answered(parser, argv, _show)


def _show(options: Any, snapshot: Snapshot) -> None:
    threads = snapshot.threads(side=options.side)
    if options.json:
        print(json.dumps({"threads": [_as_json(each) for each in threads], "footer": snapshot.footer()}, indent=2))
        return
    header = ["thread", "pid", "tid", "last sample", "samples", "labels", "innermost frame"]
    lines = [
        [
            render.printable(each.name) or "-", str(each.pid), str(each.tid), f"{_age(each.age_s)} ago",
            render.count(each.samples), _labels(each), render.printable(render.name_of(each.row)) if each.row else "-",
        ]
        for each in threads
    ]  # fmt: skip
    found = render.table(header, lines, left=(0, 5, 6)) if lines else ["no thread was sampled"]
    shown = [title(snapshot), "", *found]
    for each in threads if not options.list else ():
        if each.row is not None:
            shown += ["", f"{render.printable(each.name) or 'thread'} ({each.tid}), {_age(each.age_s)} ago:"]
            shown += render.trace(each.row, most=SHOWN_FRAMES)
    shown += ["", *render.footer(snapshot)]
    render.write(shown, sys.stdout)


def _age(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 10 else render.age(seconds)


def _labels(thread: ThreadSample) -> str:
    return (render.printable(render.labels(thread.row)) if thread.row else "") or "-"


def _as_json(thread: ThreadSample) -> dict[str, Any]:
    found = thread._asdict()
    row = found.pop("row")
    found["labels"] = json.loads(row.labels) if row is not None and row.labels else {}
    found["back_trace"] = row.back_trace if row is not None else None
    found["trace"] = list(row.trace) if row is not None else []
    return found
