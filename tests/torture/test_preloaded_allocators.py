"""Another malloc preloaded: after us, its blocks are recorded, each once; before us, we say so and keep quiet."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from observing import clean_environment, compare, see, without_our_line
from victims import HERE

from memleak import _native, locate, recording

pytestmark = pytest.mark.timeout(300)
MODES = ("normal", "full")
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
ALLOCATORS = {"jemalloc": "libjemalloc.so.2", "mimalloc": "libmimalloc.so.2", "tcmalloc": "libtcmalloc_minimal.so.4"}
# What it keeps is what a recording in full mode must show.
PROGRAM = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.realloc.restype = libc.calloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
kept = [libc.malloc(1_234_567) for _ in range(10)]
for block in [libc.malloc(7_654_321) for _ in range(10)]:
    libc.free(block)
grown = [libc.realloc(libc.malloc(1000), 2_345_678) for _ in range(10)]
print(all(kept), all(grown))
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_preloaded_with_us(runtime_directory, allocator, place, mode):
    """A Python program with threads, a fork and extension modules; then one whose blocks are known."""
    library = LIBRARIES / ALLOCATORS[allocator]
    if not library.exists():
        pytest.skip(f"lib{allocator} is not installed")
    order = [str(library), _native.library_path()]
    preload = ":".join(order if place == "before" else order[::-1])
    alone = {"LD_PRELOAD": str(library)}
    command = [sys.executable, str(HERE / "few_calls.py")]
    plain = see(command, {**clean_environment(), **alone})
    assert plain.status == 0 and plain == see(command, clean_environment())
    if place == "before":  # it is called, not we
        traced = see(command, clean_environment(MEMLEAK="1", MEMLEAK_DIR=str(runtime_directory), LD_PRELOAD=preload))
        assert traced.errors.count("memleak: not tracing: another malloc comes before ours") == 1
        assert (traced.status, traced.output, without_our_line(traced.errors)) == (0, plain.output, plain.errors)
        assert locate.list_recordings([runtime_directory]) == []
        return
    compare(command, runtime_directory, mode, MEMLEAK="1", LD_PRELOAD=preload)
    compare([sys.executable, "-c", PROGRAM], runtime_directory, mode, MEMLEAK="1", LD_PRELOAD=preload)
    if mode == "full":
        newest = max(runtime_directory.glob("*.mlrec"), key=lambda path: path.stat().st_mtime_ns)
        live = [row.alloc_bytes - row.freed_bytes for row in recording.load(newest).rows]
        assert 10 * 1_234_567 in live and 10 * 2_345_678 in live
        assert not any(each >= 10 * 7_654_321 for each in live)
