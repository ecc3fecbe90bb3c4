"""Slots of loaded objects: what is a program's own is left alone, what another tool takes is noticed."""

from __future__ import annotations

import shutil
import sys
from collections import defaultdict

import pytest
from doors import Door, Libraries
from relocations import slots_in
from tracing import Sum, run

import compatenv
from memleak import layout


@pytest.fixture
def holders(program) -> str:
    """A library with functions that keep blocks."""
    return program("doors/holders.c", "-shared", "-fPIC", "-fno-builtin", name="holders.so")


# ---- pointers of the program's own -----------------------------------------------------------------------

# _decimal reaches malloc through variables of its own data; its initialisation overwrites them with PyMem_Malloc.
DECIMAL = """
import sys
import memleak
memleak.start(min_sample_interval=1, max_sample_interval=1, python=False)
import ctypes
from memleak import _native
holders = ctypes.CDLL(sys.argv[1])
holders.make_a(500)
memleak.status()
assert "_decimal" not in sys.modules
import _decimal
_native.poll()
print(_decimal.Decimal(7) / 2, "_decimal" in sys.modules)
status = memleak.status()
print([(found.path, found.reason) for found in status.coverage.out_of_reach])
holders.drop_a()
holders.make_b(300)
"""


def assert_decimal_changes_nothing(door: Door, holders: str, python: str = sys.executable) -> None:
    """What was live before `import _decimal` is known to be freed after it; no object is called another tool's."""
    # Native code only: the program reads itself, and all of the reader's objects would fill the recording.
    done = door.run(python, "-c", DECIMAL, holders, env={"MEMLEAK_PYTHON": "0"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "3.5 True\n[]\n", "")
    found = door.last()
    assert found.header.counters["displaced"] == 0
    assert found.samples_lost == {}
    assert Libraries([holders]).sums(found, "make_") == {"holders.so:make_b": Sum(300, 666600)}


def test_pointers_that_a_module_sets_itself(door, holders):
    """They are no sign of another tool."""
    assert_decimal_changes_nothing(door, holders)


@pytest.mark.compat
@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_pointers_that_a_module_sets_itself_under(door, holders, version):
    """The same under each CPython found."""
    python = compatenv.python_with_package(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    door.core = run(python, "-c", "from memleak import _native; print(_native.library_path())").stdout.strip()
    assert_decimal_changes_nothing(door, holders, python)


# ---- operator new ------------------------------------------------------------------------------------------

LAZY = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.dlopen.restype = ctypes.c_void_p
def lazily(path):
    return ctypes.CDLL(path, handle=libc.dlopen(path.encode(), os.RTLD_LAZY | os.RTLD_LOCAL))
pool, user = map(lazily, sys.argv[1:])
pool.make_pooled(100)
for _ in range(300):
    user.make_new(100)
    user.drop_new(100)
print(pool.pool_news(), pool.pool_deletes())
"""


def test_a_call_is_bound_to_the_operator_new_it_would_be_without_us(door, program):
    """Another library's, loaded earlier and for itself alone, is not it, although the loader lists it first."""
    pool = program("doors/pool.cc", "-shared", "-fPIC", name="pool.so")
    flags = ("-shared", "-fPIC", "-Wl,-z,lazy", "-Wl,--no-as-needed", "-lstdc++")
    user = program("doors/new_user.cc", *flags, name="new_user.so")
    plain = run(sys.executable, "-c", LAZY, pool, user)
    assert (plain.returncode, plain.stdout, plain.stderr) == (0, "1 0\n", "")
    code = "import memleak; memleak.start(min_sample_interval=1, max_sample_interval=1, python=False)\n" + LAZY
    done = door.run(sys.executable, "-c", code, pool, user, env={"MEMLEAK_PYTHON": "0"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 0\n", "")
    found = door.last()
    assert found.samples_lost == {}
    # The C++ library's ends in malloc: bound or not, it is seen.
    assert Libraries([user]).sums(found, "make_", depth=2) == {"new_user.so:make_new": Sum(300, 30000)}


PROVIDERS = 11
POOLS = """
import ctypes, os, sys
import memleak
memleak.start(min_sample_interval=1, max_sample_interval=1, python=False)
pools = [ctypes.CDLL(path) for path in sys.argv[1:]]
for number, pool in enumerate(pools):
    for _ in range(100):
        pool.make_pooled(100 + number)
        pool.drop_pooled(200)
    print(pool.pool_news(), pool.pool_deletes())
for found in memleak.status().coverage.out_of_reach:
    print("out", found.path, found.reason)
"""


def test_more_operator_news_than_are_hooked_are_named(door, program, tmp_path):
    """Of each library that brings its own all calls are seen, or none and it is out of reach."""
    built = program("doors/pool.cc", "-shared", "-fPIC", name="pool.so")
    paths = [shutil.copy(built, tmp_path / f"pool{number}.so") for number in range(PROVIDERS)]
    done = door.run(sys.executable, "-c", POOLS, *paths, env={"MEMLEAK_PYTHON": "0"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:PROVIDERS] == [["200", "100"]] * PROVIDERS
    out = {line[1]: line[2] for line in lines[PROVIDERS:]}
    found = door.last()
    assert found.samples_lost == {}
    sums = Libraries(paths).sums(found, "make_")
    for number, path in enumerate(paths):
        seen = sums.get(f"pool{number}.so:make_pooled")
        assert (seen, out.get(str(path))) in [(Sum(100, 100 * (100 + number)), None), (None, "other_allocator")]
    assert len(sums) >= 7
    assert len(out) >= 1


# ---- a tool that takes some functions only ---------------------------------------------------------------

TAKEN = """
import ctypes, sys
import memleak
memleak.start(min_sample_interval=1, max_sample_interval=1, python=False)
holders, taker = map(ctypes.CDLL, sys.argv[1:3])
def out_of_reach():
    return [(found.path == sys.argv[1], found.reason) for found in memleak.status().coverage.out_of_reach]
holders.make_a(1000)
holders.make_b(500)
print(out_of_reach())
print(taker.take(b"holders.so") > 0)
holders.drop_a()
print(out_of_reach())
print(taker.give_back() > 0)
holders.drop_b()
print(out_of_reach())
holders.make_c(700)
holders.drop_c()
holders.make_d(100)
"""


def test_frees_that_another_tool_took_are_not_live(core_path, runtime_directory, holders, program):
    """What it freed is closed once that is noticed, and counted; afterwards everything is seen again."""
    import_door = Door("import", core_path, runtime_directory)
    taker = program("doors/taker.c", "-shared", "-fPIC", name="taker.so")
    done = import_door.run(sys.executable, "-c", TAKEN, holders, taker)
    said = "[]\nTrue\n[(True, 'other_tool')]\nTrue\n[]\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    found = import_door.last()
    assert Libraries([holders]).sums(found, "make_") == {"holders.so:make_d": Sum(100, 44400)}
    assert found.header.counters["displaced"] >= 1500
    assert found.samples_lost.keys() == {"displaced"}


# ---- what coverage says, against the objects' files ------------------------------------------------------

EXTENSIONS = (
    "array audioop binascii bz2 cmath ctypes curses datetime dbm decimal hashlib heapq itertools json lxml.etree lzma "
    "math mmap multiprocessing numpy numpy.linalg numpy.random pickle pyexpat queue random readline resource select "
    "socket sqlite3 ssl struct syslog termios unicodedata uuid zlib zoneinfo _testcapi _lsprof _opcode _xxsubinterpreters"
)
IMPORTS = """
import importlib, sys
import memleak
memleak.start(python=False)
missing = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        missing.append(name)
status = memleak.status()
print(len(missing), len(status.coverage.out_of_reach), len(status.coverage.not_looked_at))
"""


def test_coverage_equals_what_the_files_say(door):
    """Of every object of a Python process with many extensions: hooked if it calls an allocation function, else not."""
    for needed in ("numpy", "lxml"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    command = (sys.executable, "-W", "ignore", "-c", IMPORTS, *EXTENSIONS.split())
    done = door.run(*command, mode="normal", env={"MEMLEAK_PYTHON": "0"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[1:] == ["0", "0"]
    modules = door.last().modules
    # The core is not looked at; it is there if a stack led through it.
    assert sum(module.coverage == layout.COVERAGE_UNKNOWN for module in modules) == 1
    compared: dict[int, int] = defaultdict(int)
    for module in modules:
        if module.coverage in (layout.COVERAGE_UNKNOWN, layout.COVERAGE_GONE) or module.flags & layout.MODULE_VDSO:
            continue
        expected = slots_in(module.path)
        least, most = expected.fixed - expected.weak, expected.fixed + expected.variable
        assert least <= module.slots_here <= most, (module.path, expected, module.slots_here)
        assert module.slots_elsewhere == 0, module.path
        right = layout.COVERAGE_HOOKED if module.slots_here else layout.COVERAGE_NONE
        assert module.coverage == right, (module.path, expected)
        compared[module.coverage] += 1
    print(dict(compared))
    assert compared[layout.COVERAGE_HOOKED] >= 15
    assert compared[layout.COVERAGE_NONE] >= 10
