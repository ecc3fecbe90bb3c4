"""What a leaking line holds, found out without the tracer.

`sys.getsizeof` tells what an object's blocks were asked for with: spare room and the collector's head are
in it. What C code gets from malloc is counted where it asks.
"""

import ctypes
import re
import sys
from pathlib import Path

import leaks

LINES = {
    found[1]: number
    for number, text in enumerate(Path(leaks.__file__).read_text().splitlines(), 1)
    for found in [re.search(r"# leak: (.+)$", text)]
    if found
}


def line(leak, function, blocks, slack=0.0):
    """Return an entry of the ledger: where a leak is, the blocks it holds, and which share of that may be wrong."""
    code = function.__code__
    return {
        "leak": leak,
        "file": leaks.__file__,
        "line": LINES[leak],
        "function": getattr(code, "co_qualname", code.co_name),  # before 3.11 code does not know in what it stands
        "count": len(blocks),
        "bytes": sum(blocks),
        "slack": slack,
    }


def objects(found):
    """Return the sizes of objects that are one block each."""
    return [sys.getsizeof(each) for each in found]


def outside(container):
    """Return the size of what a list, dict or bytearray has beside its object."""
    empty = {list: [], dict: {}, bytearray: bytearray()}[type(container)]
    return sys.getsizeof(container) - sys.getsizeof(empty)


def bytearrays(found):
    """Return the sizes of bytearrays' blocks, two each."""
    return [size for each in found for size in (sys.getsizeof(each) - outside(each), outside(each))]


class SqliteMemory:
    """What sqlite says that it got from malloc and has not given back: blocks and bytes."""

    MEMORY_USED, MALLOC_COUNT = 0, 9

    def __init__(self):
        """Find the library that `sqlite3` uses."""
        import _sqlite3

        loaded = re.findall(r"\S*/libsqlite3\S*", Path("/proc/self/maps").read_text())
        self.status = ctypes.CDLL((loaded or [_sqlite3.__file__])[0]).sqlite3_status

    def held(self):
        """Return (blocks, bytes) now."""
        return self._ask(self.MALLOC_COUNT), self._ask(self.MEMORY_USED)

    def _ask(self, what):
        now, most = ctypes.c_int(), ctypes.c_int()
        assert self.status(what, ctypes.byref(now), ctypes.byref(most), 0) == 0
        return now.value
