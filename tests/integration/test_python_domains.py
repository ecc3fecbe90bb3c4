"""Python's own allocators: each block counted once, under the domain that was asked, whatever stands behind it."""

from __future__ import annotations

import subprocess

import compatenv
import pytest
from tracing import PROGRAMS

from memleak import query
from memleak.symbolize import Symbolizer

PROGRAM = PROGRAMS / "python_domains.py"


def rows_of(tracer, python: str, **environment: str) -> tuple[dict[str, list[int]], list]:
    """Run the program in full mode; return its ledger and the rows."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with tracer.start(python, PROGRAM, env=environment, **pipes) as started:
        words = started.stdout.readline().split()
        with Symbolizer(engine="none") as symbolizer:
            rows = query.open(started.pid, symbolizer=symbolizer).top(5000, by="alloc_bytes")
        started.stdin.close()
    return {words[i]: [int(words[i + 1]), int(words[i + 2])] for i in (0, 3)}, rows


def held(rows: list, function: str, mod_names: set[str]) -> tuple[int, int]:
    """Return blocks and bytes of rows whose innermost Python frame is in *function*, but for the lists' own arrays."""
    mine = [row for row in rows if (row.python_trace or "").startswith((f"{function} at", f"{function}.<locals>.<listcomp> at"))]
    mine += [row for row in rows if f"<listcomp> at {PROGRAM}" in (row.python_trace or "").split(" < ")[0]
             and f"{function} at" in row.python_trace]  # fmt: skip
    unique = {id(row): row for row in mine if row.mod_name in mod_names}
    return sum(row.alloc_count for row in unique.values()), sum(row.alloc_bytes for row in unique.values())


@pytest.mark.parametrize("version", compatenv.VERSIONS)
@pytest.mark.parametrize("allocator", ["pymalloc", "malloc", "debug"])
def test_each_block_is_counted_once(tracer, version, allocator):
    """In full mode the rows of a function hold what it holds: not half of it, not twice."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    ledger, rows = rows_of(tracer, python, PYTHONMALLOC=allocator)
    for function in ("text", "large"):
        count, size = ledger[function]
        found_count, found_size = held(rows, function, {"pymalloc_obj", "pymalloc_mem"})
        slack = 64  # the list's array, grown a few times; what is alive on the way
        # Debug hooks put 24 bytes around a request, and 24 more when pymalloc passes it on to the raw domain.
        extra = (48 if allocator == "debug" else 0) * count + (9 * count * 2 + 4096)
        assert count <= found_count <= count + slack, (function, found_count)
        assert size <= found_size <= size + extra, (function, found_size, size)


def test_arenas_are_not_added(tracer):
    """What is cut from them is counted; the mapping itself is not."""
    python = compatenv.interpreter("3.12") or compatenv.interpreter("3.11")
    if python is None:
        pytest.skip("no CPython 3.12 on this machine")
    _, rows = rows_of(tracer, python)
    arenas = [row for row in rows if row.mod_name == "mmap" and row.alloc_bytes >= 1 << 20 and row.python_trace]
    assert not any("python_domains" in row.python_trace for row in arenas)
