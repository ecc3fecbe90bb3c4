"""Python's own allocators: each block counted once, under the domain that was asked, whatever stands behind it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import compatenv
import pytest
from tracing import PROGRAMS, run

from memleak import recording
from memleak.records import RecordedRow

PROGRAM = PROGRAMS / "python_domains.py"


def ledger_and_recording(
    tracer, python: str, **environment: str | None
) -> tuple[dict[str, list[int]], recording.Recording]:
    """Run the program in full mode; return what it says it holds, and the recording of that moment."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with tracer.start(python, PROGRAM, env=environment, **pipes) as started:
        words = started.stdout.readline().split()
        found = tracer.only()
        started.stdin.close()
    return {words[i]: [int(words[i + 1]), int(words[i + 2])] for i in range(0, len(words), 3)}, found


def made_in(row: RecordedRow, function: str) -> bool:
    """Tell whether a function, or a comprehension in it, asked for a row's blocks."""
    names = [frame.name for frame in row.python_stack[:2]]
    return bool(names) and (names[0] == function or (names[0].endswith("<listcomp>") and names[1:] == [function]))


def held(rows: list[RecordedRow]) -> tuple[int, int]:
    """Return blocks and bytes of rows."""
    return sum(row.live.samples for row in rows), sum(row.live.bytes for row in rows)


PYTHON = {"pymalloc_obj", "pymalloc_mem"}


def assert_python_is_counted_once(
    found: recording.Recording, ledger: dict[str, list[int]], allocator: str | None
) -> None:
    """The rows of a function hold what it holds: not half of it, not twice."""
    rows = [row for row in found.rows if row.live.samples and row.mod_name != "mmap"]
    for function in ("text", "large"):
        count, size = ledger[function]
        found_count, found_size = held([row for row in rows if made_in(row, function) and row.mod_name in PYTHON])
        slack = 64  # the list's array, grown a few times; what is alive on the way
        # Debug hooks put 24 bytes around a request, and 24 more when pymalloc passes it on to the raw domain.
        extra = (48 if allocator == "debug" else 0) * count + (9 * count * 2 + 4096)
        assert count <= found_count <= count + slack, (function, found_count)
        assert size <= found_size <= size + extra, (function, found_size, size)
    # pymalloc asks malloc for one byte instead.
    empty = [row for row in rows if made_in(row, "nothing") and row.live.bytes <= row.live.samples]
    assert held(empty)[0] == ledger["nothing"][0]
    assert {row.mod_name for row in empty} == PYTHON


def assert_held_outside(found: recording.Recording, function: str, mod_name: str, ledger: dict, debug: bool) -> None:
    """The rows of a function hold what it asked a domain for, debug hooks' 24 bytes for each block added."""
    count, size = ledger[function]
    rows = [row for row in found.rows if made_in(row, function) and row.mod_name == mod_name]
    assert held(rows) == (count, size + 24 * count * debug)


@pytest.mark.parametrize("version", compatenv.VERSIONS)
@pytest.mark.parametrize("allocator", ["pymalloc", "malloc", "debug"])
def test_each_block_is_counted_once(tracer, version, allocator):
    """In full mode, whatever allocators the interpreter begins with."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    ledger, found = ledger_and_recording(tracer, python, PYTHONMALLOC=allocator)
    assert_python_is_counted_once(found, ledger, allocator)
    assert_held_outside(found, "raw", "glibc_malloc", ledger, allocator == "debug")
    assert_held_outside(found, "native", "glibc_malloc", ledger, False)
    assert found.samples_lost.keys() == {"displaced"}  # the interpreter began without our hooks, see the program


@pytest.mark.parametrize("version", compatenv.VERSIONS)
@pytest.mark.parametrize("allocator", [None, "malloc", "debug"])
def test_python_alone(tracer, version, allocator):
    """Native allocations are not recorded; Python's are as otherwise, and what asks domain RAW by that name."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    ledger, found = ledger_and_recording(tracer, python, PYTHONMALLOC=allocator, MEMLEAK_NATIVE="0")
    assert not found.header.counts_native
    assert_python_is_counted_once(found, ledger, allocator)
    assert_held_outside(found, "raw", "pymem_raw", ledger, allocator == "debug")
    assert not [row for row in found.rows if row.mod_name not in {*PYTHON, "pymem_raw"} and row.alloc_samples]
    assert found.samples_lost.keys() == ({"displaced"} if allocator else set())


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_hooks_are_back_before_the_program_begins(tracer, version):
    """An interpreter that sets its allocators anew lets code objects die as it begins: nobody has to import anything."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    code = "def make():\n    return [bytes(300) for _ in range(500)]\nkept = make()\n"
    done = tracer.run(python, "-S", "-c", code, env={"PYTHONMALLOC": "debug"})
    assert (done.returncode, done.stderr) == (0, "")
    rows = [row.alloc_samples for row in tracer.only().rows if row.mod_name == "pymalloc_obj" and made_in(row, "make")]
    assert max(rows, default=0) == 500


def test_arenas_are_not_added(tracer):
    """What is cut from them is counted; the mapping itself is not."""
    python = compatenv.interpreter("3.12") or compatenv.interpreter("3.11")
    if python is None:
        pytest.skip("no CPython 3.12 on this machine")
    _, found = ledger_and_recording(tracer, python)
    assert found.samples_lost == {}
    mapped = [row for row in found.rows if row.mod_name == "mmap" and row.live.bytes >= 1 << 20]
    arenas = [row for row in mapped if not made_in(row, "native")]
    assert not [row for row in arenas if any(frame.file == str(PROGRAM) for frame in row.python_stack)]


DEEP = """
import os, sys
sys.setrecursionlimit(20000)
def deep(n):
    if n:
        return deep(n - 1)
    print("deep", flush=True)
    sys.stdin.readline()
deep(5000)
print("back", flush=True)
sys.stdin.readline()
os._exit(0)
"""


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_frames_of_deep_recursion(tracer, version):
    """Chunks of 16 KiB from the arena allocator, less than mappings are counted from otherwise; given back, they are gone."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    sizes = []
    with tracer.start(python, "-c", DEEP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        for word in ("deep", "back"):
            assert started.stdout.readline() == f"{word}\n"
            rows = [row for row in tracer.only().rows if row.mod_name == "mmap" and made_in(row, "deep")]
            sizes.append(held(rows))
            started.stdin.write("\n")
            started.stdin.flush()
    (count, size), back = sizes
    assert size == count * 16384 > 5000 * 60
    assert back == (0, 0)


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_an_interpreter_that_comes_late(tracer, program, version):
    """Loaded by a program that runs: its first objects are made before anybody looks, and the answer is not called exact."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    place = "import sysconfig as s; print(s.get_config_var('LIBDIR'), s.get_config_var('INSTSONAME'), sep='/')"
    library = run(python, "-c", place).stdout.strip()
    if not library.endswith(".so.1.0") or not Path(library).exists():
        pytest.skip("this CPython has no shared library")
    done = tracer.run(program("late_python.c", "-ldl"), library)
    assert (done.returncode, done.stdout, done.stderr) == (3, "500\n", "")
    found = tracer.only()
    assert found.samples_lost.keys() == {"displaced"}  # nothing was allocated for us inside a sample
    made = [row.alloc_samples for row in found.rows if row.mod_name == "pymalloc_obj" and made_in(row, "make")]
    assert max(made) == 500
