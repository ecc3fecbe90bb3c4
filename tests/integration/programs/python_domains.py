"""Holds objects of known numbers and sizes, and prints the ledger: what the rows of each function must add up to.

With PYTHONMALLOC the interpreter sets its allocators anew when it begins; memleak is in front of them again from the
first import of an extension module on.
"""

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


def main():
    for make in (small, text, large):
        kept.append(make())
    header = sys.getsizeof(b"")
    print(
        "text", COUNT, sum(sys.getsizeof(s) for s in kept[1]),
        "large", COUNT, sum(header + len(b) for b in kept[2]),
        flush=True,
    )  # fmt: skip
    sys.stdin.read()
    os._exit(0)


main()
