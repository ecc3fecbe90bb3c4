"""What `memleak run` says and keeps when the program has ended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, TextIO

from .. import locate, query, recording
from ..errors import MemleakError
from ..locate import Found
from . import render
from .binaries import confined
from .common import complain

SHOWN_FRAMES = 12
SHOWN_PROCESSES = 5


class Run(NamedTuple):
    """The recordings of one run: the program's own, and those of its descendants."""

    root: Found | None
    others: list[Found]

    @classmethod
    def collect(cls, pid: int, ticks: int | None, run_id: int) -> Run:
        """Find the recordings that carry *run_id*.

        The root is the last program that the process we started has executed: a wrapper script
        may have executed others before, with the same pid and start.
        """
        mine = [found for found in locate.list_recordings(locate.places()) if found.header.run_id == run_id]
        mine.sort(key=lambda found: found.header.start_monotonic_ns)
        roots = [found for found in mine if found.pid == pid and ticks in (None, found.start_ticks)]
        root = roots[-1] if roots else None
        return cls(root, [found for found in mine if found is not root])


def show(run: Run, most: int, stream: TextIO) -> None:
    """Print the top stacks of the root, then one line per descendant."""
    if run.root is None:
        render.write([f"memleak: no recording of the program; {_why_none(run)}"], stream)
        if not run.others:
            return
    if run.root is not None:
        with confined() as symbolizer:
            held = recording.load(run.root.path)
            snapshot = query.Snapshot(held, symbolizer=symbolizer, alive=[bool(run.root.alive)])
            rows = render.holding(snapshot.top(most))
            header = run.root.header
            lines = ["", f"memleak: {header.command} (pid {header.pid}) held at its end, by stack:"]
            lines += render.stacks(rows, most=SHOWN_FRAMES) if rows else ["    no live samples"]
            lines += [*render.footer(snapshot), f"recording: {run.root.path}"]
            render.write(lines, stream)
    if run.others:
        render.write(_others(run.others), stream)


def _others(others: Sequence[Found]) -> list[str]:
    weighed = []
    for found in others:
        try:
            held = round(recording.load(found.path).total_est_bytes)
        except MemleakError:
            held = 0
        weighed.append((held, found))
    weighed.sort(key=lambda pair: -pair[0])
    plural = "s" if len(weighed) > 1 else ""
    lines = [f"{len(weighed)} more recording{plural} of this run, memleak top FILE shows one:"]
    lines += [
        f"    {render.size(held):>10}  {found.header.command} (pid {found.pid}"
        f"{', running' if found.alive else ''})  {found.path}"
        for held, found in weighed[:SHOWN_PROCESSES]
    ]
    if len(weighed) > SHOWN_PROCESSES:
        lines.append(f"    … {len(weighed) - SHOWN_PROCESSES} more: memleak ps --dead")
    return [render.printable(line) for line in lines]


def _why_none(run: Run) -> str:
    if run.others:
        return "its descendants have some"
    return "memleak doctor says what may stop tracing here"


def copy(run: Run, output: str) -> None:
    """Copy the run's recordings to where ``-o`` says; one line for each that cannot be."""
    into_directory = output.endswith("/") or os.path.isdir(output)
    for found in [*([run.root] if run.root else []), *run.others]:
        if into_directory:
            target = os.path.join(output, os.path.basename(found.path))
        elif found is run.root:
            target = output
        else:
            target = f"{output}.{found.pid}-{found.start_ticks}"
            if _shares_name(found, run):
                target += f"-{found.header.recording_id:016x}"
        try:
            query.Snapshot(recording.load(found.path)).save(target, force=True)
        except (MemleakError, OSError) as error:
            complain("run", f"-o {target}: {error}; the recording stays at {found.path}")


def _shares_name(found: Found, run: Run) -> bool:
    """Tell whether another recording, or the root, is of the same process: it has executed several programs."""
    everyone = [*([run.root] if run.root else []), *run.others]
    return sum((other.pid, other.start_ticks) == (found.pid, found.start_ticks) for other in everyone) > 1
