"""Run the same Python program through either door, and name the functions of libraries it loads.

Programs stand in programs/doors/. They call `memleak.start()` themselves: through the import door that
starts everything, through the preload door it finds the core at work.
"""

from __future__ import annotations

import bisect
import os
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
from tracing import PROGRAMS, Functions, Sum, Tracer

from memleak import recording

DOORS = ("import", "preload")
SOURCES = PROGRAMS / "doors"


class Door(Tracer):
    """Python programs with the core coming in through one door, recordings in a directory of their own."""

    def __init__(self, name: str, core: str, directory: Path) -> None:
        """Take the door's name beside what a `Tracer` takes."""
        super().__init__(core, directory)
        self.name = name

    def environment(self, mode: str = "full", **more: str | None) -> dict[str, str]:
        """Return the environment for a traced program; through the import door it starts tracing itself."""
        switches = {} if self.name == "preload" else {"LD_PRELOAD": None, "MEMLEAK": None, "MEMLEAK_FOLLOW": None}
        fixed = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        return super().environment(mode, **{**switches, **fixed, **more})

    def python(self, program: str | Path, *words: object, **options) -> subprocess.CompletedProcess:
        """Run one of programs/doors/ to its end."""
        return self.run(sys.executable, SOURCES / program, *words, **options)

    def last(self) -> recording.Recording:
        """Read the recording that was opened last."""
        return recording.load(self.paths()[-1])


class Libraries:
    """The functions of libraries compiled by these tests."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        """Ask nm about each."""
        self.functions = {str(Path(path).resolve()): LibraryFunctions(path) for path in paths}
        self.names: dict[tuple[str, int, bool], str] = {}

    def stack(self, found: recording.Recording, row) -> list[str]:
        """Return a row's frames, innermost first: LIBRARY:FUNCTION, or [FILE] for other modules."""
        return [self.name(found.module(frame.module_id).path, frame.vaddr, frame.exact) for frame in row.stack]

    def name(self, path: str, vaddr: int, exact: bool) -> str:
        """Return one place as LIBRARY:FUNCTION, or [FILE]."""
        place = path, vaddr, exact
        if place not in self.names:
            known = self.functions.get(path)
            file = os.path.basename(path) or "unknown"
            self.names[place] = f"{file}:{known.at_vaddr(vaddr, exact)}" if known else f"[{file}]"
        return self.names[place]

    def sums(self, found: recording.Recording, word: str, depth: int = 3) -> dict[str, Sum]:
        """Add up live samples by LIBRARY:FUNCTION, the innermost of *depth* frames whose name begins with *word*."""
        sums: dict[str, Sum] = defaultdict(lambda: Sum(0, 0))
        for row in found.rows:
            if row.live.samples:
                named = [name for name in self.stack(found, row)[:depth] if name.partition(":")[2].startswith(word)]
                if named:
                    before = sums[named[0]]
                    sums[named[0]] = Sum(before.count + row.live.samples, before.bytes + row.live.bytes)
        return dict(sums)


class LibraryFunctions(Functions):
    """The functions of one library."""

    def at_vaddr(self, vaddr: int, exact: bool) -> str:
        """Return the function a frame is in."""
        position = bisect.bisect_right(self.starts, vaddr - (not exact)) - 1
        return self.names[position] if position >= 0 else "before the first"


def ledgers(output: str) -> dict[str, Sum]:
    """Read `site NAME COUNT BYTES` lines below `library NAME` lines; sites without live blocks are left out."""
    sums, library = {}, ""
    for line in output.splitlines():
        words = line.split()
        if words[0] == "library":
            library = words[1]
        elif words[0] == "site" and (int(words[2]), int(words[3])) != (0, 0):
            sums[f"{library}:{words[1]}"] = Sum(int(words[2]), int(words[3]))
    return sums


def module_flags() -> list[str]:
    """Return the compiler flags of an extension module; without Python's headers the test cannot be made."""
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").exists():
        pytest.skip("Python's headers are not installed")
    return ["-shared", "-fPIC", f"-I{include}"]
