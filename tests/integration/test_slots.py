"""Slots of loaded objects: what is a program's own is left alone, what another tool takes is noticed."""

from __future__ import annotations

import sys

import pytest
from doors import Door, Libraries
from tracing import Sum, run

import compatenv


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
