"""A recording tells no address of the process, nothing of its blocks' contents, its arguments or its environment."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from array import array
from bisect import bisect
from pathlib import Path

import pytest

from memleak import _native, recording

PROGRAM = """
import ctypes, json, os, sqlite3, sys, threading
kept = [b"contents-canary" * 1000 for _ in range(100)] + [("contents-canary%d" % i) * 50 for i in range(2000)]
threads = [threading.Thread(target=lambda: kept.append(bytearray(b"contents-canary" * 100))) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
base = sqlite3.connect(":memory:")
base.execute("CREATE TABLE t AS SELECT 'contents-canary' AS c")
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
blocks = [libc.malloc(100_000 + i) for i in range(50)]
print(open("/proc/self/maps").read(), end="", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("door", ["preload", "import"])
def test_no_address_no_content(runtime_directory, door):
    """Every word of the file is held against the process's own map of its memory."""
    environment = {**os.environ, "MEMLEAK": "1", "MEMLEAK_MODE": "full", "CANARY": "environment-canary"}
    if door == "preload":
        environment["LD_PRELOAD"] = _native.library_path()
    command = [sys.executable, "-c", PROGRAM, "argument-canary"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (path,) = runtime_directory.glob("*.mlrec")
    data = path.read_bytes()
    assert len(data) > 1 << 20 and b"sqlite3" in data
    # What the file name, a stack of code from a string and the command's own name tell is meant to be told.
    for canary in (b"contents-canary", b"argument-canary", b"environment-canary"):
        assert canary not in data
    ranges = mapped(done.stdout)
    assert addresses_in(data, ranges) == []
    # A live sample's word has an address in its low bits, hidden by a number that is nowhere: by chance alone they fit.
    live = sum(row.live.samples for row in recording.load(path).rows)
    assert live > 5000
    assert len(addresses_in(data, ranges, mask=(1 << 48) - 1)) < live / 100


def test_an_address_would_be_found():
    """The search is no search that finds nothing."""
    with open("/proc/self/maps") as maps:
        ranges = mapped(maps.read())
    data = Path(__file__).read_bytes()
    data += bytes(-len(data) % 8) + struct.pack("<Q", id(data)) + b"more"
    assert addresses_in(data, ranges) == [(len(data) - 12) // 4 * 4]


def mapped(maps: str) -> list[tuple[int, int]]:
    """Return (start, end) of each mapping that small numbers and much address space that is only kept are not within."""
    found = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in maps.splitlines()]
    return sorted((start, end) for start, end in found if start >= 1 << 32 and end - start < 1 << 30)


def addresses_in(data: bytes, ranges: list[tuple[int, int]], mask: int = (1 << 64) - 1) -> list[int]:
    """Return the places of words that are an address in one of these ranges; a word may begin at each multiple of four."""
    starts = [start for start, _ in ranges]
    found = []
    for offset in (0, 4):
        words = array("Q", data[offset : offset + (len(data) - offset) // 8 * 8])
        for index, whole in enumerate(words):
            word = whole & mask
            if starts[0] <= word < ranges[-1][1] and word < ranges[bisect(starts, word) - 1][1]:
                found.append(offset + index * 8)
    return found
