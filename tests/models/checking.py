#!/usr/bin/env python3
"""Have SPIN search all states of the models here; tests/test_models.py asks for it.

Usage: tests/models/checking.py [MODEL…]

A line of a model's first comment says what is to be done; README.md explains them:

    SEARCH assertion|cycle FLAGS…            finds nothing
    MUTANT NAME assertion|cycle [FLAG]: …    with -DNAME one of the searches of that kind, with that flag, finds a fault
    WITNESS NAME [FLAG]: SENTENCE            with -DNAME an assertion fails: the state it names can be reached
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MODELS = Path(__file__).resolve().parent
MEMORY_MB = 1000  # of one search
DEPTH = 20_000
KINDS = {"assertion": ["-DSAFETY"], "cycle": ["-DNP"]}
LINE = re.compile(r"^ \* (SEARCH|MUTANT|WITNESS) ([^:\n]+)", re.MULTILINE)


class Search(NamedTuple):
    """One search: what for, and what is defined in the model."""

    kind: str
    flags: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([self.kind, *(flag.removeprefix("-D") for flag in self.flags)])


class Change(NamedTuple):
    """A mutant or a witness: what is defined for it, and the kind of search that must find it."""

    role: str
    name: str
    kind: str
    flags: frozenset[str]  # of the searches that can find it


class Outcome(NamedTuple):
    """What a search has found (None: it has seen all states, and nothing is wrong), and its figures."""

    fault: str | None
    states: int
    depth: int
    seconds: float
    megabytes: float

    def __str__(self) -> str:
        figures = f"{self.states:,} states, depth {self.depth:,}, {self.seconds:.1f} s, {self.megabytes:.0f} MB"
        return f"{figures}: {self.fault or 'nothing wrong'}"


class Model:
    """One .pml file and what its first comment asks for."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem
        self.searches: list[Search] = []
        self.changes: list[Change] = []
        for role, rest in LINE.findall(path.read_text()):
            words = rest.split()
            if role == "SEARCH":
                self.searches.append(Search(words[0], tuple(words[1:])))
            else:
                name, kind, *flags = words if role == "MUTANT" else [words[0], "assertion", *words[1:]]
                self.changes.append(Change(role, name, kind, frozenset(flags)))

    def find(self, change: Change) -> tuple[Search, Outcome]:
        """Return the first search that finds the changed model wrong, or the last one."""
        for search in self.searches:
            if search.kind == change.kind and change.flags.issubset(search.flags):
                search = Search(search.kind, (f"-D{change.name}", *search.flags))
                outcome = run(self, search)
                if outcome.fault:
                    break
        return search, outcome


def models() -> list[Model]:
    """Return all models."""
    return [Model(path) for path in sorted(MODELS.glob("*.pml"))]


def run(model: Model, search: Search) -> Outcome:
    """Search the states of *model* until something is found or all have been seen. Raises if neither can be."""
    changed = any(f"-D{change.name}" in search.flags for change in model.changes)
    with tempfile.TemporaryDirectory() as directory:
        call(directory, "spin", "-a", *search.flags, str(model.path))
        # To compile them well would take longer than they run.
        call(directory, "gcc", "-w", "-O0", *KINDS[search.kind], f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c")
        options = ["-n", f"-m{DEPTH}", "-w20" if changed else "-w22", *(["-l"] if search.kind == "cycle" else [])]
        output = call(directory, "./pan", *options)
    return outcome_of(output)


def call(directory: str, *command: str) -> str:
    """Return what a command prints; it must succeed."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} returned {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def outcome_of(output: str) -> Outcome:
    """Read pan's report."""

    def figure(pattern: str) -> float:
        found = re.search(pattern, output)
        if not found:
            raise RuntimeError(f"pan says nothing of {pattern}:\n{output}")
        return float(found[1])

    errors = figure(r"errors: (\d+)")
    fault = re.search(r"^pan:\d+: (.*)", output, re.MULTILINE)
    incomplete = re.search(r"(?i)search not completed|max search depth|memlim|out of memory|truncated", output)
    if (errors == 0 and incomplete) or (errors > 0) != bool(fault):
        raise RuntimeError(f"not all states were searched:\n{output}")
    return Outcome(
        fault[1][:120] if fault else None,
        int(figure(r"(\d+) states, stored")),
        int(figure(r"depth reached (\d+)")),
        figure(r"elapsed time ([\d.]+)"),
        figure(r"([\d.e+]+)\s+total actual memory"),
    )


def report(names: list[str]) -> Iterator[str]:
    """Yield a line for each search, mutant and witness."""
    for model in models():
        if names and model.name not in names:
            continue
        for search in model.searches:
            yield f"{model.name} {search}: {run(model, search)}"
        for change in model.changes:
            search, outcome = model.find(change)
            yield f"{model.name} {change.role.lower()} {search}: {outcome}"


if __name__ == "__main__":
    for line in report(sys.argv[1:]):
        print(line, flush=True)
