"""``memleak ps``: recordings of living and dead processes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from .. import locate, recording
from ..errors import MemleakError
from . import render
from .common import Parser

NEAR = 0.8  # of the limit: where marks begin


def main(argv: Sequence[str]) -> int:
    """List recordings, the newest first."""
    parser = Parser("ps", "List recordings: those of running processes, with --dead the others too.")
    parser.add_argument("directory", metavar="DIR", nargs="*", help="look here instead of the usual places")
    parser.add_argument("--dead", action="store_true", help="also recordings of processes that have ended")
    parser.add_argument("--json", action="store_true", help="one JSON list")
    options = parser.parse_args(argv)
    places = options.directory or locate.places()
    every = locate.list_recordings(places)
    shown = [found for found in every if options.dead or found.alive is not False]
    shown.sort(key=lambda found: -found.header.start_realtime_ns)
    entries = [entry(found) for found in shown]
    if options.json:
        print(json.dumps(entries, indent=2))
        return 0
    if entries:
        render.write(_table(entries), sys.stdout)
    else:
        where = " ".join(str(place) for place in places)
        print(f"no recordings of running processes in {where}; memleak run PROGRAM makes one")
    hidden = len(every) - len(shown)
    if hidden:
        print(f"{hidden} of ended processes: memleak ps --dead")
    return 0


def entry(found: locate.Found) -> dict[str, Any]:
    """Return what is known of one recording, by name."""
    header = found.header
    held: int | None
    try:
        held = round(recording.load(found.path).total_est_bytes)
        size = os.stat(found.path).st_blocks * 512
    except (MemleakError, OSError):
        held, size = None, 0  # it ended and was removed meanwhile
    return {
        "pid": header.pid,
        "pid_here": found.pid_here,
        "command": header.command,
        "state": state(found),
        "limit_share": header.limit_share,
        "limit": header.limit_name,
        "mode": header.mode,
        "age_s": age_s(found),
        "samples": header.counters["samples"],
        "est_bytes": held,
        "size_bytes": size,
        "path": str(found.path),
    }


def age_s(found: locate.Found) -> float:
    """Return for how many seconds a process has been recorded, or since when one that is gone or out of sight was."""
    if found.pid_here is None:
        return max(0.0, time.time() - found.header.started_at)
    # The wall clock may have been set since.
    return max(0.0, (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - found.header.start_monotonic_ns) / 1e9)


def state(found: locate.Found) -> str:
    """Return what became of the process in a word or two."""
    if found.alive:
        return "running"
    if found.alive is None:
        return "other namespace"
    if found.pid_here is not None:
        return "running, copy"
    return found.header.state_name if found.header.ended else "killed"


def _state(one: dict[str, Any]) -> str:
    """Return the state, and for a process of a container the number that a TARGET of ours must be."""
    if one["pid_here"] not in (None, one["pid"]):
        return f"{one['state']}, here {one['pid_here']}"
    # Whoever killed it, that is why if it was the kernel for want of memory.
    share = one["limit_share"] if one["state"] == "killed" else None
    return f"killed at {100 * share:.0f} % of {one['limit']}" if share is not None and share >= NEAR else str(one["state"])


def _table(entries: Sequence[dict[str, Any]]) -> list[str]:
    header = ["PID", "COMMAND", "STATE", "MODE", "AGE", "SAMPLES", "EST LIVE", "SIZE", "RECORDING"]
    rows = [
        [
            str(one["pid"]), render.printable(one["command"]), _state(one), one["mode"], render.age(one["age_s"]),
            render.count(one["samples"]), render.size(one["est_bytes"]), render.size(one["size_bytes"]),
            render.printable(one["path"]),
        ]
        for one in entries
    ]  # fmt: skip
    return render.table(header, rows, left=(1, 2, 3, 8))
