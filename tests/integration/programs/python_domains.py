"""Holds objects of known numbers and sizes, and prints the ledger: what the rows of each function must add up to.

With PYTHONMALLOC the interpreter sets its allocators anew when it begins; memleak is in front of them again from the
first import of an extension module on.
"""

import ctypes
import mmap
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


def function(name, *types, library=ctypes.pythonapi):
    """Return a function that hands out blocks, called with the GIL if it is of the interpreter's; no block is 0."""
    found = getattr(library, name)
    found.argtypes, found.restype = types, ctypes.c_void_p
    return found


bytes_type = ctypes.c_size_t
mem_malloc = function("PyMem_Malloc", bytes_type)
object_malloc = function("PyObject_Malloc", bytes_type)
mem_calloc = function("PyMem_Calloc", bytes_type, bytes_type)
mem_realloc = function("PyMem_Realloc", ctypes.c_void_p, bytes_type)
raw_malloc = function("PyMem_RawMalloc", bytes_type)
everything = ctypes.CDLL(None)  # whose functions are called without the GIL
free_malloc = function("PyMem_RawMalloc", bytes_type, library=everything)
free_calloc = function("PyMem_RawCalloc", bytes_type, bytes_type, library=everything)
free_realloc = function("PyMem_RawRealloc", ctypes.c_void_p, bytes_type, library=everything)
c_malloc = function("malloc", bytes_type, library=everything)


def nothing():
    """No bytes at all, asked for in each way."""
    found = []
    for _ in range(COUNT // 5):
        found += mem_malloc(0), object_malloc(0), mem_calloc(0, 8)
        found += mem_realloc(None, 0), mem_realloc(mem_malloc(100), 0)
    return found


def raw():
    """From the allocator that needs no GIL, 101 to 2,000 bytes each, with it and without."""
    found = []
    for n in range(100, 100 + COUNT // 4):
        found += raw_malloc(n + 1), free_malloc(n), free_calloc(n, 2), free_realloc(free_malloc(50), n)
    return found


def native():
    """Not from Python's allocators at all."""
    return [c_malloc(100 + n) for n in range(COUNT)], mmap.mmap(-1, 1 << 20)


def main():
    for make in (small, text, large, nothing, raw, native):
        kept.append(make())
    header = sys.getsizeof(b"")
    print(
        "text", COUNT, sum(sys.getsizeof(s) for s in kept[1]),
        "large", COUNT, sum(header + len(b) for b in kept[2]),
        "nothing", len(kept[3]), 0,
        "raw", len(kept[4]), sum(5 * n + 1 for n in range(100, 100 + COUNT // 4)),
        "native", COUNT, sum(100 + n for n in range(COUNT)),
        flush=True,
    )  # fmt: skip
    sys.stdin.read()
    os._exit(0)


main()
