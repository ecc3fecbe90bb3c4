"""An interpreter in which `import tracemalloc` is memleak.tracemalloc, in every process that it starts.

A path file does it: it is read under -I and -E, which CPython's test gives to its children, too.
"""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import compatenv
import sharing

KNOWN = Path(__file__).resolve().parent / "known_tracemalloc.txt"
MODULE = "test_tracemalloc"
SUBSTITUTE = "import memleak.tracemalloc, sys; sys.modules['tracemalloc'] = memleak.tracemalloc\n"
WHO = "import tracemalloc; print(tracemalloc.start.__module__)"


class NotSubstituted(Exception):
    """`import tracemalloc` finds the standard module."""


@cache
def python_with_ours(version: str) -> str | None:
    """Return the interpreter of an environment of its own; None if there is no CPython of this version."""
    python = compatenv.interpreter(version)
    if python is None:
        return None
    wheel, home = compatenv.wheel(), compatenv.home()
    directory = home / f"tracemalloc-{version}"
    ours = directory / "bin/python"

    def make() -> None:
        compatenv.environment(directory.name, python, compatenv.NEEDED)
        with tempfile.TemporaryDirectory() as nothing:
            compatenv.pip(directory, "install", "--no-deps", "--force-reinstall", str(wheel), path=nothing)
        (site,) = directory.glob("lib/python3.*/site-packages")
        (site / "zz_tracemalloc.pth").write_text(SUBSTITUTE)

    sharing.once_a_run(home, directory.name, make)
    for options in ([], ["-I"], ["-E"]):
        done = subprocess.run([ours, *options, "-c", WHO], capture_output=True, text=True)
        if done.stdout != "memleak.tracemalloc\n":
            raise NotSubstituted(f"{ours} {options}: {done.stdout}{done.stderr}")
    return str(ours)
