"""Holds objects of known numbers and sizes, and prints the ledger: what the rows of each function must add up to.

With PYTHONMALLOC the interpreter sets its allocators anew when it begins; memleak is in front of them again from the
first import of an extension module on.
"""

import ctypes
import os
import sys

import array  # noqa: F401, I001 (an extension module)

kept = []
COUNT = 3000


def small():
    """Floats: 24 bytes from Python's object allocator (a free list may give some)."""
    return [float(n) for n in range(COUNT)]


def text():
    """Strings of 100 to 130 characters, made one at a time."""
    return [("%0100d" % n) + "x" * (n % 31) for n in range(COUNT)]


def large():
    """Requests beyond 512 bytes go on to malloc."""
    return [bytes(1000 + n) for n in range(COUNT)]


def function(name, *types):
    """Return a function of the interpreter that hands out blocks; no block is 0."""
    found = getattr(ctypes.pythonapi, name)
    found.argtypes, found.restype = types, ctypes.c_void_p
    return found


bytes_type = ctypes.c_size_t
mem_malloc = function("PyMem_Malloc", bytes_type)
object_malloc = function("PyObject_Malloc", bytes_type)
mem_calloc = function("PyMem_Calloc", bytes_type, bytes_type)
mem_realloc = function("PyMem_Realloc", ctypes.c_void_p, bytes_type)


def nothing():
    """No bytes at all, asked for in each way."""
    found = []
    for _ in range(COUNT // 5):
        found += mem_malloc(0), object_malloc(0), mem_calloc(0, 8), mem_realloc(None, 0), mem_realloc(mem_malloc(100), 0)
    return found


def main():
    for make in (small, text, large, nothing):
        kept.append(make())
    header = sys.getsizeof(b"")
    print(
        "text", COUNT, sum(sys.getsizeof(s) for s in kept[1]),
        "large", COUNT, sum(header + len(b) for b in kept[2]),
        "nothing", len(kept[3]), 0,
        flush=True,
    )  # fmt: skip
    sys.stdin.read()
    os._exit(0)


main()
