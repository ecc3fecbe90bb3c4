"""Python's own allocators: each block counted once, under the domain that was asked, whatever stands behind it."""

from __future__ import annotations

import subprocess

import compatenv
import pytest
from tracing import PROGRAMS

from memleak import recording
from memleak.records import RecordedRow

PROGRAM = PROGRAMS / "python_domains.py"


def ledger_and_rows(tracer, python: str, **environment: str) -> tuple[dict[str, list[int]], list[RecordedRow]]:
    """Run the program in full mode; return what it says it holds, and the rows that hold something."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with tracer.start(python, PROGRAM, env=environment, **pipes) as started:
        words = started.stdout.readline().split()
        (path,) = tracer.paths()
        rows = [row for row in recording.load(path).rows if row.live.samples]
        started.stdin.close()
    return {words[i]: [int(words[i + 1]), int(words[i + 2])] for i in range(0, len(words), 3)}, rows


def made_in(row: RecordedRow, function: str) -> bool:
    """Tell whether a function, or a comprehension in it, asked for a row's blocks."""
    names = [frame.name for frame in row.python_stack[:2]]
    return bool(names) and (names[0] == function or (names[0].endswith("<listcomp>") and names[1:] == [function]))


def held(rows: list[RecordedRow]) -> tuple[int, int]:
    """Return blocks and bytes of rows."""
    return sum(row.live.samples for row in rows), sum(row.live.bytes for row in rows)


@pytest.mark.parametrize("version", compatenv.VERSIONS)
@pytest.mark.parametrize("allocator", ["pymalloc", "malloc", "debug"])
def test_each_block_is_counted_once(tracer, version, allocator):
    """In full mode the rows of a function hold what it holds: not half of it, not twice."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    ledger, rows = ledger_and_rows(tracer, python, PYTHONMALLOC=allocator)
    for function in ("text", "large"):
        count, size = ledger[function]
        mine = [row for row in rows if made_in(row, function) and row.mod_name in ("pymalloc_obj", "pymalloc_mem")]
        found_count, found_size = held(mine)
        slack = 64  # the list's array, grown a few times; what is alive on the way
        # Debug hooks put 24 bytes around a request, and 24 more when pymalloc passes it on to the raw domain.
        extra = (48 if allocator == "debug" else 0) * count + (9 * count * 2 + 4096)
        assert count <= found_count <= count + slack, (function, found_count)
        assert size <= found_size <= size + extra, (function, found_size, size)
    # pymalloc asks malloc for one byte instead.
    empty = [row for row in rows if made_in(row, "nothing") and row.live.bytes <= row.live.samples]
    assert held(empty)[0] == ledger["nothing"][0]
    assert {row.mod_name for row in empty} == {"pymalloc_mem", "pymalloc_obj"}


def test_arenas_are_not_added(tracer):
    """What is cut from them is counted; the mapping itself is not."""
    python = compatenv.interpreter("3.12") or compatenv.interpreter("3.11")
    if python is None:
        pytest.skip("no CPython 3.12 on this machine")
    _, rows = ledger_and_rows(tracer, python)
    arenas = [row for row in rows if row.mod_name == "mmap" and row.live.bytes >= 1 << 20]
    assert not [row for row in arenas if any(frame.file == str(PROGRAM) for frame in row.python_stack)]
