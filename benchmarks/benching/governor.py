"""The governor: what sampling costs a busy thread whose allocation rate steps a hundredfold, over windows of 10 s."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from .building import compiled
from .candidates import CANDIDATES
from .errors import directory_in_memory
from .places import Places

QUIET, BUSY = 50, 5000  # allocations in a millisecond
SECONDS = 30
WINDOW_S = 10.0
LOOK_S = 0.25


class Look(NamedTuple):
    """What was spent by a moment."""

    cpu_s: float  # of the process
    own_s: float  # of it, for sampling, as the recording says
    widest: int  # the greatest gap in force


def measure(places: Places, _: int, quick: bool) -> dict[str, Any]:
    """Let a thread step from 1 x to 100 x and back, and look at its recording from outside."""
    seconds = SECONDS // 3 if quick else SECONDS
    looks = watched(places, [QUIET, seconds, BUSY, seconds, QUIET, seconds])
    worst = max(shares(looks))
    rows = []
    for i in range(int(3 * seconds / WINDOW_S)):
        first, last = nearest(looks, i * WINDOW_S), nearest(looks, (i + 1) * WINDOW_S)
        rate = QUIET if (i + 0.5) * WINDOW_S % (2 * seconds) < seconds else BUSY
        rows.append({"each_ms": rate, "share": share(first, last), "widest": last.widest})
    lines = [
        f"{row['each_ms']:,} allocations a millisecond: {row['share'] * 100:.2f} % of the CPU, gaps up to {row['widest']:,}"
        for row in rows
    ]
    lines.append(f"the worst of all windows of 10 s: {worst * 100:.2f} %")
    return {"lines": lines, "rows": rows, "worst_share": worst}


def watched(places: Places, steps: list[int]) -> list[Look]:
    """Run the program at the defaults; look four times a second until it ends."""
    directory, recordings = places.fresh(), directory_in_memory(places)
    environment = {**CANDIDATES["memleak-normal"].way(places).environment(directory), "MEMLEAK_DIR": str(recordings)}
    command = [str(compiled("steps.c")), *map(str, steps)]
    looks = []
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()  # type: ignore[union-attr]
        (path,) = recordings.glob("*.mlrec")
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        while process.poll() is None:
            looks.append(look(process.pid, path))
            time.sleep(LOOK_S)
    shutil.rmtree(directory, ignore_errors=True)
    if process.returncode:
        raise RuntimeError(f"steps ended with {process.returncode}")
    return looks


def look(pid: int, path: Path) -> Look:
    """Read what the kernel and the recording say of a process."""
    from memleak import recording

    header = recording.load_header(path)
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return Look(cpu_s, header.own_cost_ns / 1e9, header.effective[1])


def nearest(looks: list[Look], cpu_s: float) -> Look:
    """Return the look at about so much CPU time: the thread is always busy."""
    return min(looks, key=lambda one: abs(one.cpu_s - cpu_s))


def share(first: Look, last: Look) -> float:
    """Return the part of the CPU between two looks that went into sampling."""
    return (last.own_s - first.own_s) / (last.cpu_s - first.cpu_s)


def shares(looks: list[Look]) -> list[float]:
    """Return the share of every window of ten seconds, one beginning at each look."""
    ends = [next((last for last in looks[i:] if last.cpu_s >= first.cpu_s + WINDOW_S), None) for i, first in enumerate(looks)]
    return [share(first, last) for first, last in zip(looks, ends) if last]
