"""Do the same work through whichever door, each part below a native frame of its own name.

usage: agree.py DIRECTORY MIN MAX ROUNDS LIBRARY_ROUNDS [LIBRARY…]

The recording begins just before the work, through either door. A LIBRARY whose name contains "late" is loaded after
that, one whose name contains "module" is imported. Prints "part NAME COUNT BYTES" for blocks whose number and size the
work knows; the libraries print "site NAME COUNT BYTES", each after a line "library NAME". At the end of the work it
prints what status() says of coverage, "coverage OBJECTS HOOKED", "out REASON FILE", "waiting FILE", and "sentence" with
its summary; and each "object FILE" that is mapped then.
"""

import ctypes
import gc
import importlib.util
import os
import sys

import memleak
from memleak import _native

gc.disable()
directory, low, high, rounds, library_rounds = sys.argv[1], *map(int, sys.argv[2:6])
libraries = sys.argv[6:]
kept = []
modules = {}


def extension(name):
    spec = importlib.util.spec_from_file_location(name, f"{directory}/{name}.so")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def part(name, count, size):
    print("part", name, count, count * size, flush=True)


def work_numpy():
    kept.append([numpy.ones(512 + i % 7) for i in range(rounds)])  # numpy keeps small blocks for itself
    kept.append([numpy.zeros((3, 1000), dtype="f4") for _ in range(rounds)])
    del kept[0][::2]
    kept.append(numpy.linalg.inv(numpy.eye(50) + 0.01))


def work_sqlite():
    base = sqlite3.connect(":memory:")
    base.execute("create table t (a integer primary key, b text)")
    base.executemany("insert into t (b) values (?)", [("x" * (i % 3000),) for i in range(rounds)])
    base.execute("create index i on t (b)")
    kept.append((base, base.execute("select sum(length(b)) from t where b like 'xx%'").fetchone()))


def work_lxml():
    text = "<a>" + "".join(f"<b c='{i}'>{'t' * (i % 50)}<d/></b>" for i in range(rounds)) + "</a>"
    tree = etree.fromstring(text)
    kept.append(tree)
    kept.append(len(tree.xpath("//b[@c > 5]")))
    kept.append(len(etree.tostring(tree)))


def work_zlib():
    packers = [zlib.compressobj() for _ in range(max(rounds // 100, 3))]
    for number, packer in enumerate(packers):
        packer.compress(bytes([number]) * 10000)
    del packers[::3]
    kept.append(packers)


def work_ctypes():
    for library in (ctypes.CDLL(None), ctypes.CDLL("libc.so.6")):
        library.malloc.restype = library.calloc.restype = library.realloc.restype = ctypes.c_void_p
        library.realloc.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        library.free.argtypes = (ctypes.c_void_p,)
        blocks = [library.malloc(777) for _ in range(rounds)]
        blocks += [library.calloc(7, 111) for _ in range(rounds)]
        blocks += [library.realloc(library.malloc(10), 777) for _ in range(rounds)]
        for block in blocks[::3]:
            library.free(block)
        kept.append(blocks)


def is_cpp(path):
    return os.path.basename(path).startswith("cpp")


def is_module(path):
    return "module" in os.path.basename(path)


def load(path):
    if is_module(path):
        if path not in modules:
            modules[path] = extension(os.path.basename(path).partition(".")[0])
        return modules[path]
    return ctypes.CDLL(path)


def work_library(path):
    def run():
        library = load(path)
        assert library.keep(library_rounds) > 0
        if not is_cpp(path):
            assert library.inside(10) == 70
        library.release()

    return run


phases = extension("phases")
with_late = [path for path in libraries if "late" in os.path.basename(path)]
early = [path for path in libraries if path not in with_late]
for path in early:
    library = load(path)  # bound at once, lazily and called, or lazily and not yet called
    if "warm" in path:
        library.warm()
import sqlite3  # noqa: E402
import zlib  # noqa: E402

import numpy  # noqa: E402

memleak.stop()
memleak.status()  # so that it has loaded what it needs
of_python = {"python_min_sample_interval": low, "python_max_sample_interval": high}
memleak.start(min_sample_interval=low, max_sample_interval=high, **of_python)

from lxml import etree  # noqa: E402 - loaded after the start

phases.numpy(work_numpy)
phases.sqlite(work_sqlite)
phases.zlib(work_zlib)
phases.lxml(work_lxml)
phases.ctypes(work_ctypes)
for path in early:
    (phases.cpp if is_cpp(path) else phases.forms)(work_library(path))
for path in with_late:
    phases.late(work_library(path))

_native.poll()
memleak.stop()
coverage = memleak.status().coverage  # now: what the reader allocates, in full mode, would fill the recording
print("coverage", coverage.objects, coverage.hooked)
for found in coverage.out_of_reach:
    print("out", found.reason, found.path)
for path in coverage.not_looked_at:
    print("waiting", path)
print("sentence", coverage.summary())
with open("/proc/self/maps") as maps:
    for path in sorted({line.split()[5] for line in maps if "/" in line and " r-xp " in line}):
        print("object", path)
part("numpy_ones", rounds // 2, 0)
part("numpy_zeros", rounds, 12000)
part("ctypes", 2 * 2 * rounds, 777)
for path in libraries:
    print("library", os.path.basename(path), flush=True)
    load(path).ledger()
sys.stdout.flush()
os._exit(0)  # what is kept stays so
