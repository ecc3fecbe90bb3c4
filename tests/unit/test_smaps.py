"""Mappings of a process, and what each is for."""

from __future__ import annotations

import io
import subprocess
import sys

from memleak import smaps

TEXT = b"""\
55d0a0000000-55d0a0010000 r-xp 00001000 fe:01 12                         /usr/bin/app name
Rss:                  64 kB
Anonymous:             0 kB
VmFlags: rd ex mr
55d0a0010000-55d0a0012000 rw-p 00010000 fe:01 12                         /usr/bin/app name
Rss:                   8 kB
Anonymous:             8 kB
55d0a0012000-55d0a0020000 rw-p 00000000 00:00 0
Rss:                  12 kB
55d0a1000000-55d0a2000000 rw-p 00000000 00:00 0                          [heap]
Rss:                1000 kB
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
Rss:                 512 kB
7f0000100000-7f0004000000 ---p 00000000 00:00 0
Rss:                   0 kB
7f0004000000-7f0008000000 rw-p 00000000 00:00 0
Rss:               65536 kB
7f0010000000-7f0010100000 rw-p 00000000 00:00 0
Rss:                  16 kB
Swap:                  4 kB
7f0010200000-7f0010201000 ---p 00000000 00:00 0
7f0010201000-7f0010a01000 rw-p 00000000 00:00 0
Rss:                  24 kB
7f0020000000-7f0020100000 rw-s 00000000 00:01 5                          /memfd:x (deleted)
Rss:                 100 kB
7f0021000000-7f0021100000 r-xp 00000000 fe:01 9                          /opt/x/libmemleak.so
Rss:                 100 kB
7f0021100000-7f0021101000 rw-p 00100000 fe:01 9                          /opt/x/libmemleak.so
Rss:                   4 kB
7f0021101000-7f0021200000 rw-p 00000000 00:00 0
Rss:                   8 kB
7f0021200000-7f0022200000 rw-p 00000000 00:00 0
Rss:                  40 kB
VmFlags: rd wr mr dd nh
7f0030000000-7f0032000000 rw-s 00000000 00:19 7                          /dev/shm/memleak-0/1-2-3.mlrec
Rss:                 300 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
Rss:                  20 kB
7ffc00100000-7ffc00102000 r-xp 00000000 00:00 0                          [vdso]
Rss:                   4 kB
"""


def test_kinds():
    """Each mapping by its name, its neighbours, its place, and whose stack pointer is in it."""
    found = smaps.classify(list(smaps.parse(io.BytesIO(TEXT))), [0x7F0010300000])
    kinds = {}
    for one in found:
        kinds[one.kind] = kinds.get(one.kind, 0) + one.rss
    assert kinds == {
        "file": (64 + 8 + 12) << 10,
        "heap": (1000 + 512 + 65536) << 10,
        "mapped": 16 << 10,
        "stack": (24 + 20) << 10,
        "shared": 100 << 10,
        "tracer": (100 + 4 + 8 + 40 + 300) << 10,
        "kernel": 4 << 10,
    }
    assert found[2].owner == "/usr/bin/app name" and found[7].swapped == 4 << 10
    assert "dd" in next(one for one in found if one.flags[-1:] == ("nh",)).flags


def test_damaged_lines_are_passed_over():
    lines = [
        b"Rss: 5 kB\n",
        b"nonsense\n",
        b"7f-80 rw-p 0 0:0 0 \n",
        b"Rss: many\n",
        b"Rss:\n",
        b"\xff\xfe: \n",
        b"Swap: 8 kB\n",
    ]
    (one,) = smaps.parse(lines)
    assert (one.start, one.end, one.rss, one.swapped) == (0x7F, 0x80, 0, 8192)


def test_a_process():
    """What the kernel says of the mappings of one that stands still adds up to its own sum."""
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        found = smaps.look(process.pid)
        with open(f"/proc/{process.pid}/smaps_rollup") as stream:
            rollup = next(int(line.split()[1]) << 10 for line in stream if line.startswith("Rss:"))
        process.stdin.close()
    assert abs(sum(one.rss for one in found) - rollup) < rollup / 50
    assert {"heap", "file", "stack"} <= {one.kind for one in found}
