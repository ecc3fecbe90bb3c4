"""Python frames: code objects that die and whose memory is used again never lend a name to another."""

from __future__ import annotations

import re
import subprocess
import sys

import compatenv
import pytest
from tracing import LONG, PROGRAMS

from memleak import query, recording
from memleak.symbolize import Symbolizer

INIT = """
import os, sys
class Block:
    def __init__(self):
        self.held = bytes(100_000)
def make():
    return [Block() for _ in range(50)] + [Block(), Block()]
kept = [make() for _ in range(20)]
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
"""

START = """
import ctypes, sys
core = ctypes.PyDLL(sys.argv[1])
class Service:
    def __init__(self, begin):
        if begin:
            assert core.memleak_start(1, 1, 1, 1, ctypes.c_ulonglong(0), 64, 1, 1) == 0
def begin():
    for n in range(100):
        Service(n == 99)
begin()
"""

# Cells are made before a call's first line; in CPython 3.11 that may run the collector, and what a dying object does.
COLLECTED = """
import ctypes, gc, sys
core = ctypes.PyDLL(sys.argv[1])
begun = []
class Last:
    def __init__(self):
        self.me = self
    def __del__(self):
        assert core.memleak_start(1, 1, 1, 1, ctypes.c_ulonglong(0), 64, 1, 1) == 0
        begun.append(sys._getframe(1).f_code.co_name)
def with_cells(a):
    return lambda: a
def call():
    gc.collect()
    Last()
    gc.set_threshold(1)
    with_cells(1)
    gc.set_threshold(0)
call()
assert begun, "nothing was collected"
"""

CODES = 1_000_000 if LONG else 6_000
# Of each code object the block it keeps is sampled, and in the long form one in so many of the small objects it makes.
GAP = {"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "200", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "200"} if LONG else {}


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_no_wrong_name_among_short_lived_code(tracer, version):
    """File, function and line of each kept block are those of the code that made it, which its size tells."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with tracer.start(python, PROGRAMS / "python_codes.py", CODES, env=GAP, **pipes) as started:
        assert started.stdout.readline() == "ready\n", started.wait()
        with Symbolizer(engine="none") as symbolizer:
            rows = query.open(started.pid, symbolizer=symbolizer).top(100_000, by="alloc_bytes")
        started.stdin.close()
    right = set()  # those that are kept, and those that wait for the garbage collector
    for row in rows:
        innermost = (row.python_trace or "").partition(" < ")[0]
        if not row.alloc_count or "<made" not in innermost:
            continue  # another's, or without a name
        found = re.fullmatch(r"(f\d+|<module>) at <made (\d+)>:(\d+)", innermost)
        assert found, row.python_trace
        name, number, line = found[1], int(found[2]), int(found[3])
        if name == "<module>":  # what the interpreter keeps for the function it makes
            assert line in (number % 7 + 1, number % 7 + 3), row.python_trace
            continue
        header = row.alloc_bytes - (600 + number % 5003)
        assert (name, line, row.alloc_count) == (f"f{number % 101}", number % 7 + 2, 1), row.python_trace
        assert 0 < header <= 64, (row.python_trace, row.alloc_bytes)
        right.add(number)
    kept = set(range(0, CODES, 20))
    # In the long form there is not room for all their names.
    assert kept <= right if not LONG else len(kept & right) >= 1000


def test_rows_say_that_their_python_stack_found_no_room(tracer):
    """A program that makes more stacks than a small room holds: a row that still fits does not look like one without Python."""
    lost = 0
    for room in ("4M", "5M", "6M"):  # what is left of one may be too little for a row, too
        done = tracer.run(sys.executable, "-S", PROGRAMS / "python_paths.py", 20000, env={"MEMLEAK_ROOM": room})
        assert (done.returncode, done.stdout) == (0, "20000\n"), done.stderr
        found = tracer.only(sys.executable)
        assert found.header.counters["python_full"] > 0
        lost += sum(row.alloc_samples for row in found.rows if row.python_lost)
        tracer.forget()
    assert lost > 0


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_no_frame_that_the_interpreter_hides(tracer, version):
    """A call of __init__ that 3.12 and later shorten goes through a frame that is nobody's function."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with tracer.start(python, "-c", INIT, **pipes) as started:
        assert started.stdout.readline() == "ready\n", started.wait()
        with Symbolizer(engine="none") as symbolizer:
            rows = query.open(started.pid, symbolizer=symbolizer).top(20, by="alloc_bytes")
        started.stdin.close()
    plain = version in ("3.9", "3.10")
    init, comprehension = ("__init__", "<listcomp>") if plain else ("Block.__init__", "make.<locals>.<listcomp>")
    inside = [] if version in ("3.12", "3.13") else [f"{comprehension} at <string>:7"]  # PEP 709
    outer = ["<listcomp> at <string>:8"] if inside else []
    tail = ["make at <string>:7", *outer, "<module> at <string>:8"]
    chains = {" < ".join([f"{init} at <string>:5", *between, *tail]) for between in ([], inside)}
    blocks = [row for row in rows if (row.python_trace or "").startswith(f"{init} at <string>:5")]
    blocks = [row for row in blocks if row.alloc_count and row.alloc_bytes / row.alloc_count >= 100_000]
    assert {row.python_trace for row in blocks} == chains
    assert sum(row.alloc_count for row in blocks) == 20 * 52


@pytest.mark.parametrize("program", [START, COLLECTED], ids=["init", "collected"])
@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_tracing_begins_below_such_a_frame(core_path, runtime_directory, version, program):
    """The walk is held against the interpreter's own where tracing begins: there too what it hides is no difference."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    subprocess.run([python, "-c", program, core_path], check=True)
    (path,) = runtime_directory.glob("*.mlrec")
    assert recording.load_header(path).python.endswith(": frames read")
