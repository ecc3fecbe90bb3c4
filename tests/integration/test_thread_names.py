"""Rows by thread: each has the kernel's name and number of the thread that allocated."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from tracing import run

from memleak import query

SIZES = {"reader": 100, "writer": 200, "fifteen letters": 300}
PYTHON = """
import threading, sys, os
kept, begun = [], threading.Barrier(3)
def work(size):
    for _ in range(500):
        kept.append(bytes(size))
    begun.wait()
    print(threading.get_native_id(), size, flush=True)
    sys.stdin.read()
for size in (20_000, 30_000):
    threading.Thread(target=work, args=(size,), daemon=True).start()
begun.wait()
print(threading.get_native_id(), "main", flush=True)
sys.stdin.read()
os._exit(0)
"""


def test_threads_of_a_program(tracer, program):
    """Names that the program gave, and exactly what each thread keeps; the command line says the same."""
    binary = program("named_threads.c", "-fno-builtin")
    started = tracer.start(binary, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        lines = [started.stdout.readline() for _ in range(4)]
        assert lines[-1] == "ready\n"
        tids = {name.strip(): tid for tid, _, name in (line.partition(" ") for line in lines[:3])}
        expected = {f"{name} ({tids[name]})": (1000, 1000 * size) for name, size in SIZES.items()}
        deadline = time.monotonic() + 30
        while True:  # names are noted by our thread, once a second
            rows = query.open(started.pid).top(20, group_by="thread")
            found = {row.group: (row.alloc_count, row.alloc_bytes) for row in rows if row.group in expected}
            if found == expected or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        assert found == expected, [row.group for row in rows]
        words = [sys.executable, "-m", "memleak", "top", started.pid, "--group-by", "thread", "--json"]
        shown = json.loads(run(*words).stdout)["rows"]
        assert {row["group"]: row["alloc_bytes"] for row in shown if row["group"] in expected} == {
            group: size for group, (_, size) in expected.items()
        }
    finally:
        started.kill()
        started.wait()
        started.stdin.close()
        started.stdout.close()


def test_threads_of_python(tracer):
    """Told apart by their numbers: before 3.14 the kernel does not know the names that Python gives them."""
    started = tracer.start(sys.executable, "-c", PYTHON, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        lines = dict(reversed(started.stdout.readline().split()) for _ in range(3))
        rows = query.open(started.pid).top(20, group_by="thread")
        of_thread = {row.group.rpartition("(")[2].rstrip(")"): row for row in rows}
        assert {lines["main"], lines["20000"], lines["30000"]} <= of_thread.keys()
        for size in (20_000, 30_000):
            assert 500 * size <= of_thread[lines[str(size)]].alloc_bytes <= 500 * size + 200_000
    finally:
        started.kill()
        started.wait()
        started.stdin.close()
        started.stdout.close()
