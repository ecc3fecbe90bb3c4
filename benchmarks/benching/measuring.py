"""One fresh process measured, and candidates measured in turns with what they are compared with.

CPU time and peak memory are what the kernel accounts to the process and all its descendants that were waited for
(wait4: user + system; ru_maxrss of the largest). Wall time is from before the start to after the end. All three are
taken by programs/timed.c, which says why.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from . import figures
from .building import compiled

INNER = re.compile(r"^ns_per_operation (\d+(?:\.\d+)?)$", flags=re.MULTILINE)
MEASURES = ("cpu_s", "wall_s", "peak_kib", "inner_ns")
# Above this many times its baseline's CPU a candidate gets one round: it is not noise that hides its cost.
SLOW = 6.0


class Sample(NamedTuple):
    """One run. A failure says why there is no figure."""

    cpu_s: float
    wall_s: float
    peak_kib: int
    inner_ns: Optional[float]  # what the program itself measured, of one operation
    output: str
    failure: str = ""


# Runs a workload once, as one candidate.
Run = Callable[[], Sample]


class Compared(NamedTuple):
    """A and B in turns, in order of time; or why not."""

    sequence: str
    samples: list[Sample]
    failure: str = ""

    def ratio(self, measure: str) -> Optional[figures.Spread]:
        """Return B / A; None where it was not measured."""
        found = figures.ratios(self._pairs(measure))
        return figures.spread(found) if found else None

    def difference(self, measure: str) -> Optional[figures.Spread]:
        """Return B - A in the measure's unit; None where it was not measured."""
        found = [b - a for a, b in self._pairs(measure)]
        return figures.spread(found) if found else None

    def _pairs(self, measure: str) -> list[tuple[float, float]]:
        values = [getattr(sample, measure) for sample in self.samples]
        return [] if not values or None in values else figures.pairs(self.sequence, values)


def run_process(command: Sequence[str], environment: dict[str, str], limit_s: float, directory: Path) -> Sample:
    """Run a command to its end in a session of its own, which is killed at the time limit."""
    output, errors, report = directory / "stdout", directory / "stderr", directory / "report"
    with open(output, "wb") as out, open(errors, "wb") as err:
        subprocess.run(
            timed(report, limit_s, command), env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            cwd=directory, check=False,
        )  # fmt: skip
    return read_report(report, output.read_text(errors="replace"), errors.read_text(errors="replace"), limit_s)


def timed(report: Path, limit_s: float, command: Sequence[str]) -> list[str]:
    """Return the command that runs another and writes what the kernel accounts to it."""
    return [str(compiled("timed.c", "-static")), str(report), str(max(1, round(limit_s))), *command]


def read_report(report: Path, output: str, said: str, limit_s: float) -> Sample:
    """Return what timed.c wrote, with what the command printed."""
    if not report.exists():
        return Sample(0.0, 0.0, 0, None, output, "it was not measured: timed wrote no report")
    status, user_us, system_us, peak_kib, wall_ns, at_limit = map(int, report.read_text().split())
    code = os.waitstatus_to_exitcode(status)
    failure = ""
    if at_limit:
        failure = f"hung: ended after {limit_s:.0f} s"
    elif code < 0:
        failure = f"killed by {signal.Signals(-code).name}"
    elif code > 0:
        failure = f"status {code}: {(said.strip().splitlines() or [''])[-1][:120]}"
    inner = INNER.findall(said)
    return Sample(
        (user_us + system_us) / 1e6, wall_ns / 1e9, peak_kib, float(inner[-1]) if inner else None, output, failure
    )


def compare(a: Run, b: Run, rounds: int) -> Compared:
    """Run A and B in turns, each a fresh process; stop at the first that fails or says something else.

    The first pair is not counted: it fills caches, compiles Python's files, and tells whether B works.
    """
    first, other = a(), b()
    if first.failure:
        return Compared("", [], f"what it is compared with failed: {first.failure}")
    if other.failure:
        return Compared("", [], other.failure)
    if other.output != first.output:
        return Compared("", [], f"changed the program's output: {difference(first.output, other.output)}")
    sequence = figures.order(1 if other.cpu_s > SLOW * max(first.cpu_s, 0.01) else rounds)
    samples = []
    for who in sequence:
        samples.append(sample := (a if who == "A" else b)())
        if sample.failure:
            return Compared(sequence[: len(samples)], samples, f"run {len(samples)}, {who}: {sample.failure}")
        if sample.output != first.output:
            return Compared(sequence[: len(samples)], samples, f"run {len(samples)}, {who}: another output")
    return Compared(sequence, samples)


def difference(wanted: str, seen: str) -> str:
    """Return the first line that is not the same, in a few words."""
    for one, other in zip([*wanted.splitlines(), "(end)"], [*seen.splitlines(), "(end)"]):
        if one != other:
            return f"{other[:60]!r} for {one[:60]!r}"
    return "more lines"
