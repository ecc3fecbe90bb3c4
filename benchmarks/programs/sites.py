"""Eight leaks whose sizes are known: five in a library, three in Python, 2 to 13 MB each.

usage: sites.py LIBRARY PERCENT

Prints what each holds as JSON, lets the tool that is there write what it saw, and ends without freeing anything.
"""

import builtins
import ctypes
import json
import os
import sys

MB = 1_000_000
STEPS = 100
# bytes of a block, bytes in all
NATIVE = [(48, 2 * MB), (200, 13 * MB), (1000, 6 * MB), (5000, 9 * MB), (24, 4 * MB)]


def python_site_0(held: list, first: int, count: int) -> None:
    """Hold small bytes."""
    for number in range(first, first + count):
        held[number] = bytes(100)


def python_site_1(held: list, first: int, count: int) -> None:
    """Hold tuples."""
    for number in range(first, first + count):
        held[number] = (first, *EIGHT)


def python_site_2(held: list, first: int, count: int) -> None:
    """Hold strings of more than 512 bytes, which come by malloc."""
    for number in range(first, first + count):
        held[number] = LONG + "x"


EIGHT, LONG = tuple("abcdefgh"), "y" * 1000
PYTHON = [(python_site_0, 3 * MB, 133), (python_site_1, 11 * MB, 128), (python_site_2, 7 * MB, 1050)]
library, share = ctypes.CDLL(sys.argv[1]), int(sys.argv[2]) / 100
truth = {}
plan = []
for number, (size, total) in enumerate(NATIVE):
    site = getattr(library, f"native_site_{number}")
    site.argtypes, site.restype = [ctypes.c_size_t, ctypes.c_long], ctypes.c_void_p
    count = max(1, int(total * share) // size // STEPS)
    truth[f"native_site_{number}"] = count * STEPS * size
    plan.append((site, size, count))
lists = []
for site, total, size in PYTHON:
    count = max(1, int(total * share) // size // STEPS)
    lists.append((site, [None] * (count * STEPS), count))
for step in range(STEPS):
    for site, size, count in plan:
        site(size, count)
    for site, held, count in lists:
        site(held, step * count, count)
for site, held, _ in lists:
    truth[site.__name__] = sum(map(sys.getsizeof, held))
if "BENCH_JEMALLOC" in os.environ:
    name = ctypes.c_char_p(os.environ["BENCH_JEMALLOC"].encode())
    if ctypes.CDLL(None).mallctl(b"prof.dump", None, None, ctypes.byref(name), ctypes.c_size_t(8)) != 0:
        sys.exit("jemalloc wrote no profile")
if "BENCH_PPROF" in os.environ:
    builtins.bench_write_profile()
print(json.dumps(truth), flush=True)
os._exit(0)
