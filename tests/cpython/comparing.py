"""Compare two sides of a module, case by case; run again what differs, so that chance is told apart from the tracer.

A case that differs is run again on both sides, in turn. What came out differently without the tracer too, is *unsteady*
and no evidence. Everything else stays a difference, also if it showed once only: unless known_differences.txt says why.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import suite

KNOWN = Path(__file__).resolve().parent / "known_differences.txt"
STATUS = "(exit status)"
CASES_AT_MOST = 60  # more are no matter of single cases: then the whole module runs again


@dataclass
class Difference:
    """A case that came out differently: what was seen on each side, first run first."""

    case: str
    plain: list[str]
    traced: list[str]
    reason: str = ""  # from known_differences.txt

    @property
    def unsteady(self) -> bool:
        """Is it one that comes out differently without the tracer, too?"""
        return len(set(self.plain)) > 1

    def __str__(self) -> str:
        """Say it in a line."""
        kind = "known" if self.reason else "unsteady" if self.unsteady else "DIFFERS"
        text = f"{kind}: {self.case}: plain {', '.join(self.plain)}; traced {', '.join(self.traced)}"
        return f"{text} ({self.reason})" if self.reason else text


@dataclass
class Comparison:
    """Both sides of one module under one version."""

    version: str
    module: str
    plain: suite.Run
    traced: suite.Run
    differences: list[Difference] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)  # of the traced runs, to look for the cause

    @property
    def unexpected(self) -> list[Difference]:
        """Return what neither chance nor the list of known differences explains."""
        return [one for one in self.differences if not one.reason and not one.unsteady]


def compare(
    version: str,
    python: str,
    module: str,
    core: str | None,
    repeat: int = 2,
    known: list[tuple[str, str, str]] | None = None,
    other: str | None = None,
) -> Comparison:
    """Run a module plain and traced, and what differs *repeat* times more on each side.

    The traced side has *core* preloaded, or is another interpreter: *other*.

    Raises:
        suite.NoResult: no case was run, or the traced side was not traced.
        suite.HangsAlone: it does not end without the tracer.
    """
    plain = suite.run(python, module)
    if plain.status == "hangs":
        raise suite.HangsAlone(f"hangs without the tracer: {' '.join(plain.output.splitlines()[-1:])}")
    if not plain.cases and not plain.skipped_whole:
        raise suite.NoResult(f"no case was run: {' '.join(plain.output.splitlines()[-1:])}")
    found = Comparison(version, module, plain, suite.run(other or python, module, core))
    found.outputs.append(found.traced.output)
    judge(found, known_differences() if known is None else known)
    for _ in range(repeat):
        cases = [one.case for one in found.unexpected]
        if not cases:
            break
        alone = [case for case in cases if case != STATUS]
        picked = alone if alone and len(alone) <= CASES_AT_MOST else []
        plain = suite.run(python, module, cases=picked)
        traced = suite.run(other or python, module, core, cases=picked)
        found.outputs.append(traced.output)
        for one in found.unexpected:
            if one.case == STATUS and picked:
                continue  # it tells of the cases that ran, which these are not all of
            one.plain.append(outcome(plain, one.case))
            one.traced.append(outcome(traced, one.case))
    return found


def outcome(run: suite.Run, case: str) -> str:
    """Return how a case, or the whole, came out."""
    return run.status if case == STATUS else run.outcome(case)


def judge(found: Comparison, known: list[tuple[str, str, str]]) -> None:
    """Note the cases that differ, and why if that is known."""
    cases = sorted(found.plain.cases.keys() | found.traced.cases.keys())
    for case in [*cases, STATUS]:
        sides = outcome(found.plain, case), outcome(found.traced, case)
        if sides[0] != sides[1]:
            found.differences.append(Difference(case, [sides[0]], [sides[1]], reason_for(found.version, case, known)))
    settle_status(found)


def settle_status(found: Comparison) -> None:
    """A status that says no more than "some case failed" is told by the cases, where one of those differs."""
    others = [one for one in found.differences if one.case != STATUS]
    for one in found.differences:
        if one.case == STATUS and others and {one.plain[0], one.traced[0]} == {"0", "2"}:
            one.reason = "follows from the cases"


def known_differences(path: Path = KNOWN) -> list[tuple[str, str, str]]:
    """Return (version pattern, case pattern, reason) of each line ``VERSION CASE: REASON``."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    found = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        names, colon, reason = line.partition(": ")
        if len(names.split()) != 2 or not colon or not reason.strip():
            raise ValueError(f"{path.name}: not VERSION CASE: REASON: {line}")
        version, case = names.split()
        found.append((version, case, reason.strip()))
    return found


def reason_for(version: str, case: str, known: list[tuple[str, str, str]]) -> str:
    """Return why a case is known to differ; empty if it is not."""
    matches = [why for versions, cases, why in known if fnmatch.fnmatchcase(version, versions) and cases == case]
    return matches[0] if matches else ""


HEAD = ("version", "module", "cases", "passed", "failed", "skipped", "plain s", "traced s", "samples", "differences")


def row(found: Comparison) -> tuple[str, ...]:
    """Return the figures of one comparison, in the order of HEAD."""
    plain, traced = found.plain, found.traced
    kinds: dict[str, Callable[[Difference], bool]] = {
        "unexpected": lambda one: one in found.unexpected,
        "known": lambda one: bool(one.reason),
        "unsteady": lambda one: one.unsteady and not one.reason,
    }
    counts = {kind: sum(map(test, found.differences)) for kind, test in kinds.items()}
    nothing = "skips itself" if plain.skipped_whole else "none"
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or nothing
    skipped = plain.count("skipped")
    figures = (len(plain.cases), plain.count("passed"), plain.count("failed"), skipped)
    times = (f"{plain.seconds:.0f}", f"{traced.seconds:.0f}")
    return (found.version, found.module, *map(str, figures), *times, f"{traced.samples:,}", told)
