"""A core whose offsets are wrong finds out, says so, and shows no Python frame it read before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import compatenv
import nativemutant
import pytest
from tracing import Tracer, assert_consistent, outcome, run

from memleak import recording

BACK, TRACE = ".frame_back = 24, .frame_code = 32", ".frame_back = {}, .frame_code = 32"
# Of each version's line one offset: it leads to another member, which can be read.
WRONG = {
    "3.9": (f"{BACK}, .frame_last = 104", f"{TRACE.format(80)}, .frame_last = 104"),
    "3.10": (f"{BACK}, .frame_last = 96", f"{TRACE.format(72)}, .frame_last = 96"),
    "3.11": (".code_first_traceable = 168", ".code_first_traceable = 16"),
    "3.12": (".code_first_traceable = 176", ".code_first_traceable = 16"),
    "3.13": (".code_first_traceable = 184", ".code_first_traceable = 16"),
}

KEEP = """
def keep(n):
    return [bytearray(1000 + i) for i in range(n)]
def before():
    return keep(50)
kept = before()
import json, math, _json
kept += keep(70)
print(len(kept), json.dumps([1, {"a": None}]))
"""

START = """
import ctypes, sys
def start():
    assert ctypes.PyDLL(sys.argv[1]).memleak_start(1, 1, 1, 1, ctypes.c_ulonglong(0), 64, 1, 1) == 0
start()
"""
REASON = "frames not read, they were not what the interpreter itself says"


@pytest.fixture(params=compatenv.VERSIONS)
def wrong(request, tmp_path) -> tuple[str, Path]:
    """Return an interpreter and a core that is wrong about it."""
    python = compatenv.interpreter(request.param)
    if python is None:
        pytest.skip(f"no CPython {request.param} on this machine")
    return python, nativemutant.mutated_core(tmp_path, "pylayout", *WRONG[request.param])


def check(path: Path) -> None:
    """The recording has its rows, the reason, and no Python frame."""
    found = recording.load(path)
    assert found.header.python.endswith(REASON)
    assert not any(row.python_stack or row.python_truncated for row in found.rows)
    assert sum(row.alloc_samples for row in found.rows if row.stack) >= 120
    assert_consistent(found)
    status = run(sys.executable, "-m", "memleak", "status", path)
    assert any(line.startswith("python ") and line.endswith(REASON) for line in status.stdout.splitlines()), status


def test_preloaded(wrong, runtime_directory):
    """Frames read before the first extension module was imported are not shown either."""
    python, core = wrong
    tracer = Tracer(str(core), runtime_directory)
    done = tracer.run(python, "-c", KEEP)
    assert outcome(done) == outcome(run(python, "-c", KEEP))
    (path,) = tracer.paths()
    check(path)


def test_imported(wrong, runtime_directory):
    """Found out where tracing begins."""
    python, core = wrong
    subprocess.run([python, "-c", START + KEEP, core], check=True)
    (path,) = runtime_directory.glob("*.mlrec")
    check(path)
