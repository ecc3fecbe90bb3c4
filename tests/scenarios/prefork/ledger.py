"""What a process has leaked: the truth that its recording is compared with."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_cache = ctypes.CDLL(str(Path(__file__).resolve().parent / "libcache.so"))
_cache.cache_page.argtypes, _cache.cache_page.restype = [ctypes.c_size_t], ctypes.c_void_p
_cache.drop_page.argtypes, _cache.drop_page.restype = [ctypes.c_void_p], None

_sums = {"live_count": 0, "live_bytes": 0, "total_count": 0, "total_bytes": 0}


def get_ready() -> None:
    """Allocate as much as any service does before its first request, and keep none of it.

    A forked process is recorded from its thousandth allocation on: those that count come later.
    """
    for _ in range(1100):
        bytes(1000)


def serve(pages: int) -> dict[str, int]:
    """Take *pages* pages and give every fourth back; return our pid, and the sums over all we have served."""
    for page in range(pages):
        size = 700 + 613 * (page % 9)
        address = _cache.cache_page(size)
        _sums["total_count"] += 1
        _sums["total_bytes"] += size
        if page % 4 == 3:
            _cache.drop_page(address)
        else:
            _sums["live_count"] += 1
            _sums["live_bytes"] += size
    return {"pid": os.getpid(), **_sums}
