"""Run Python code that traces itself, each piece in a process of its own: there is one core in each."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from memleak import recording

PREAMBLE = """\
import ctypes, os, sys, threading
import memleak

def keep(count):
    malloc = ctypes.CDLL(None).malloc  # looked up anew: an address got before start() leads past the hooks
    malloc.restype = ctypes.c_void_p
    return [malloc(1000) for _ in range(count)]

def refused(function, *arguments, **named):
    try:
        function(*arguments, **named)
    except Exception as error:
        return type(error).__name__
    return "nothing"

def requested():
    from memleak import own
    return tuple(own.requested())
"""


def python(code: str, *options: str, **variables: str) -> subprocess.CompletedProcess:
    """Run *code* in a fresh interpreter, with the preamble."""
    return subprocess.run(
        [sys.executable, *options, "-c", PREAMBLE + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=150, env={**os.environ, **variables},
    )  # fmt: skip


def said(code: str, *options: str, **variables: str) -> str:
    """Run *code*, which must end well and write nothing on standard error; return its output."""
    done = python(code, *options, **variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def recordings(place: Path) -> list[recording.Recording]:
    """Read the recordings in a directory, in the order of opening."""
    found = [recording.load(path) for path in place.glob("*.mlrec")]
    return sorted(found, key=lambda one: one.header.start_monotonic_ns)


# Start where no directory for recordings can be had.
PRIVATE = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
memleak.is_running()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # no descriptor for a directory
memleak.start(1, 1, python=False{more})
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
held = keep(700)
"""
