"""C programs of programs/, compiled when they are first asked for."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from .places import HOME, PROGRAMS

COMPILER = ["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fno-builtin-malloc", "-pthread"]


@functools.cache
def compiled(name: str, *words: str) -> Path:
    """Return one of programs/ as a program."""
    source = PROGRAMS / name
    program = HOME / "bench" / source.stem
    if not program.exists() or program.stat().st_mtime_ns < source.stat().st_mtime_ns:
        program.parent.mkdir(parents=True, exist_ok=True)
        half_done = program.with_name(f"{program.name}.{os.getpid()}")
        subprocess.run([*COMPILER, "-o", str(half_done), str(source), *words], check=True)
        half_done.replace(program)
    return program


def compiled_library(name: str, *words: str) -> Path:
    """Return one of programs/ as a shared object."""
    return compiled(name, "-shared", "-fPIC", "-ldl", *words)
