"""Programs at a fixed address: what everybody takes for malloc is an entry in the program, and leads to the hooks."""

from __future__ import annotations

import os
import shlex

import pytest
from doors import Libraries, ledgers
from tracing import assert_consistent, run

import compatenv

NOT_PIE = ("-no-pie", "-fno-pie", "-fno-builtin", "-Wl,-z,lazy")
# A library that calls through its own slots, and one that was linked to have none of those for calls.
FORMS = {"lazy": ("-Wl,-z,lazy",), "noplt": ("-fno-plt", "-Wl,-z,now")}
BEFORE = """
import ctypes, os, memleak
libraries = [ctypes.CDLL(path) for path in {paths!r}]
for each in libraries: each.warm()
memleak.status()  # has imported what it needs before anything is recorded
memleak.stop()
memleak.start(1, 1, strict=True)
assert memleak.is_running()
"""
AFTER = """
for each in libraries: each.keep(200), each.warm(), each.release()
status = memleak.status()
memleak.stop()
print('door', status.door)
print('out', *[found.path for found in status.coverage.out_of_reach], flush=True)
for each in libraries: print('library', os.path.basename(each._name), flush=True), each.ledger()
"""


@pytest.fixture
def fixed(program):
    """Compile fixed.c with a CPython in it: ``fixed(version)`` returns the executable's path."""

    def build(version: str) -> str:
        python = compatenv.interpreter(version)
        config = f"{os.path.realpath(python or '')}-config"
        if python is None or not os.path.exists(config):
            pytest.skip(f"no CPython {version} on this machine, or not its headers")
        words = run(config, "--embed", "--includes", "--ldflags").stdout.replace("\n", " ")
        binary = program("doors/fixed.c", *shlex.split(words), *NOT_PIE, name=f"fixed{version}")
        listing = run("readelf", "-W", "--file-header", "--dyn-syms", binary, env={"LC_ALL": "C", **os.environ}).stdout
        assert "EXEC (Executable file)" in listing
        entries = [line.split() for line in listing.splitlines() if " malloc" in line and " UND " in line]
        assert entries and int(entries[0][1], 16), "the program is not everybody's address of malloc"
        return binary

    return build


@pytest.mark.compat
@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_every_kind_of_slot_equals_the_ledger(door, program, fixed, version):
    """The program's own calls and those of libraries, through the program's entry and past it."""
    binary = fixed(version)
    python = compatenv.python_with_package(version)
    where = "import sysconfig as s; from memleak import _native as n; print(s.get_path('platlib'), n.library_path())"
    packages, door.core = run(python, "-c", where).stdout.split()
    flags = ("-shared", "-fPIC", "-fno-builtin")
    paths = [program("doors/forms.c", *flags, *more, name=f"{form}.so") for form, more in FORMS.items()]
    # Without Python's small objects, of which there are too many kinds for one recording in full mode.
    done = door.run(binary, BEFORE.format(paths=paths), AFTER, env={"PYTHONPATH": packages, "MEMLEAK_PYTHON": "0"})
    assert (done.returncode, done.stderr) == (0, "")
    told, out, *ledger = done.stdout.splitlines()
    assert (told, out) == (f"door {door.name}", "out")
    expected = ledgers("\n".join(ledger).replace("library fixed", f"library fixed{version}"))
    assert len(expected) == 21 * (1 + len(FORMS))
    found = door.last()
    assert_consistent(found)
    assert found.samples_lost == {}
    assert Libraries([binary, *paths]).sums(found, "keep_") == expected
