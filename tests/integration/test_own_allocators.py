"""Objects that bring an allocator along keep it, and what comes by no hook is named as out of reach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from doors import SOURCES, Door, Libraries, module_flags
from elftools.elf.elffile import ELFFile
from tracing import LONG, Sum, run

import compatenv
from memleak import recording

LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
JEMALLOC, JEMALLOC_STATIC = LIBRARIES / "libjemalloc.so.2", LIBRARIES / "libjemalloc_pic.a"
MIMALLOC = LIBRARIES / "libmimalloc.so.2"
# jemalloc wants more static thread-local storage than is spare when it comes late, with or without us.
ROOM_FOR_TLS = {"GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=16384"}


class Case(NamedTuple):
    """An allocator, how what brings it along is loaded, and what is to be expected."""

    kind: str
    how: str  # of own.py
    owned: str  # ways to ask for memory that lead to that allocator
    seen: str  # ways whose blocks come by, through both doors; a question mark: exact or not at all
    out: str  # file that is out of reach, "self": what was loaded; empty: none that can be known

    def __str__(self) -> str:
        return f"{self.kind}-{self.how}"


CASES = [
    Case("je_hidden", "local", "malloc name", "", ""),  # nothing that the loader knows tells of it
    Case("je_symbolic", "local", "malloc name", "", "self"),
    Case("je_symbolic", "deepbind", "malloc name", "", "self"),
    Case("je_dynamic", "deepbind", "malloc name", "", "self"),
    Case("mi_dynamic", "deepbind", "malloc name", "", "self"),
    Case("bump", "deepbind", "", "", "self"),
    Case("plain", "namespace", "", "", "self"),
    Case("plain", "deepbind", "", "malloc?", "self"),
    Case("plain", "local", "", "malloc", ""),
    # As a wheel brings it: the process's malloc is found first, the allocator serves those who call it by its name, and
    # operator new if it has one. (jemalloc's operator delete calls the process's free: such a wheel has libstdc++'s.)
    Case("je_dynamic", "local", "name", "malloc", "libjemalloc.so.2"),
    Case("mi_dynamic", "local", "name", "malloc", "libmimalloc.so.2"),
    Case("je_dynamic", "module", "name", "malloc new", "libjemalloc.so.2"),
    Case("mi_dynamic", "module", "new name", "malloc new", "libmimalloc.so.2"),
    Case("je_hidden", "module", "malloc new name", "", ""),
    Case("je_symbolic", "module", "malloc new name", "", "self"),
    Case("mi_hidden", "module", "malloc new name", "", ""),
    Case("mi_symbolic", "module", "malloc new name", "", "self"),
    Case("mi_static", "module", "new name", "malloc? new", "self"),
    Case("plain", "module", "", "malloc new", ""),
    # The process's own allocator.
    Case("je_preloaded", "local", "malloc name", "malloc", ""),
    Case("je_preloaded", "module", "malloc new name", "malloc new", ""),
    Case("mi_preloaded", "module", "malloc new name", "malloc new", ""),
]
# Opened before tracing starts and after; in the short form by turns.
CASES_BY_TURNS = [
    pytest.param(case, when, id=f"{case}-{when}")
    for number, case in enumerate(CASES)
    for turn, when in enumerate(("before", "after"))
    if LONG or turn == number % 2 or case.kind == "bump"
]


@pytest.fixture(scope="module")
def mimalloc_static() -> str:
    """The path of mimalloc's archive, from a package that has one."""
    try:
        directory = compatenv.environment("mimalloc", sys.executable, ["cmeel-mimalloc"])
    except (compatenv.PackageError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cmeel-mimalloc cannot be installed: {error}")
    (archive,) = directory.glob("lib/*/site-packages/cmeel.prefix/lib/mimalloc-*/libmimalloc.a")
    return str(archive)


@pytest.fixture
def own(program, tmp_path, request):
    """Build what brings an allocator along: ``own(case)``."""

    def build(case: Case) -> str:
        allocator, _, link = case.kind.partition("_")
        flags = ["-shared", "-fPIC", "-fno-builtin"]
        needed = {"je": (JEMALLOC, JEMALLOC_STATIC), "mi": (MIMALLOC,)}.get(allocator, ())
        if not all(path.exists() for path in needed):
            pytest.skip(f"{'libjemalloc' if allocator == 'je' else 'libmimalloc'}-dev is not installed")
        flags += {"je": ["-DJEMALLOC"], "mi": ["-DMIMALLOC"]}.get(allocator, [])
        if link == "dynamic":
            # libstdc++ is found before jemalloc, and after mimalloc.
            flags += ["-lstdc++", "-l:libjemalloc.so.2"] if allocator == "je" else ["-l:libmimalloc.so.2"]
        elif link in ("hidden", "symbolic", "static") and allocator == "je":
            flags += ["-l:libjemalloc_pic.a", "-lm", "-lstdc++"]
        elif link in ("hidden", "symbolic", "static"):
            flags += [request.getfixturevalue("mimalloc_static")]
        if link == "hidden":
            script = tmp_path / "own.map"
            script.write_text("{ global: own_*; PyInit_*; local: *; };\n")
            flags += [f"-Wl,--version-script={script}"]
        elif link == "symbolic":
            flags += ["-Wl,-Bsymbolic"]
        elif case.kind == "bump":
            bump = program("bump_malloc.c", "-shared", "-fPIC", "-fno-builtin", name="libbump.so")
            flags += [bump, f"-Wl,-rpath,{Path(bump).parent}"]
        if case.how == "module":
            return program("doors/own_module.cc", *module_flags(), *flags, name=f"own_module_{case.kind}.so")
        return program("doors/own.c", *flags, name=f"own_{case.kind}.so")

    return build


def preloaded(door: Door, case: Case) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment that preloads the case's allocator, without tracing and with it."""
    if not case.kind.endswith("preloaded"):
        return {}, {}
    allocator = str(JEMALLOC if case.kind.startswith("je") else MIMALLOC)
    both = f"{door.core}:{allocator}" if door.name == "preload" else allocator
    return {"LD_PRELOAD": allocator}, {"LD_PRELOAD": both}


@pytest.mark.parametrize(("case", "when"), CASES_BY_TURNS)
def test_objects_keep_their_allocators(door, own, tmp_path, case, when):
    """What the allocator says of itself is the same with us; its blocks are counted once or named as out of reach."""
    library = own(case)
    without, within = preloaded(door, case)
    command = (sys.executable, SOURCES / "own.py", case.how)
    plain = run(*command, "never", library, tmp_path, env={**os.environ, **ROOM_FOR_TLS, **without})
    assert (plain.returncode, plain.stderr) == (0, "")
    owned = {line.split()[0] for line in plain.stdout.splitlines() if line.endswith(" its own") and "not" not in line}
    assert owned == set(case.owned.split())

    # Native code only: the program reads itself, and all of the reader's objects would fill the recording.
    environment = door.environment("full", MEMLEAK_PYTHON="0", **ROOM_FOR_TLS, **within)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*map(str, command), when, library, str(tmp_path)], env=environment, **pipes)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "memleak ready\n":
                break
        else:
            pytest.fail(f"ended with {process.wait()}, {lines}: {process.stderr.read()}")
        out_of_reach = Path(library) if case.out == "self" else LIBRARIES / case.out
        mapped = mapped_bytes(process.pid, str(out_of_reach.resolve())) if case.out else range(0)
        doctor = subprocess.run(
            [sys.executable, "-m", "memleak", "doctor", str(process.pid)], capture_output=True, text=True, check=False
        )
        rest, errors = process.communicate("", timeout=60)
    finally:
        process.kill()
    lines += rest.splitlines(keepends=True)
    assert (process.returncode, errors) == (0, "")
    assert "".join(line for line in lines if not line.startswith("memleak")) == plain.stdout

    libraries = Libraries([library])
    found = [recording.load(tmp_path / f"{which}.mlrec") for which in ("first", "second")]
    assert [each.samples_lost for each in found] == [{}, {}]
    out = {words[3]: (words[2], int(words[4])) for words in map(str.split, lines) if words[:2] == ["memleak", "out"]}
    expected = {way.rstrip("?"): way.endswith("?") for way in case.seen.split()}
    unseen = []
    for way, (functions, size) in WAYS.items():
        sums = [sum_of(libraries, each, functions) for each in found]
        exact = [Sum(count, count * size) for count in (100, 50)]
        if way not in expected or (expected[way] and not sums[0].count):
            exact = [Sum(0, 0)] * 2
            unseen.append(way)
        assert sums == exact, way
    if case.out and set(unseen) & {*case.owned.split(), "malloc"}:
        assert out_of_reach.name in out, (out, lines)
        assert out[out_of_reach.name][1] in mapped
        said = [line for line in doctor.stdout.splitlines() if f"/{out_of_reach.name} " in line]
        assert any(line.startswith("warn") for line in said), doctor.stdout
    if case.out != "self":
        assert Path(library).name not in out


# way -> functions of own.c, bytes of a block
WAYS = {
    "malloc": (("made_block", "made_grown"), 2100),
    "new": (("made_by_new",), 1700),
    "name": (("made_by_name",), 1300),
}


def mapped_bytes(pid: int, path: str) -> range:
    """Return how much address space an object takes: what of its file smaps has, up to that and its zeroed data."""
    size = inside = 0
    with open(f"/proc/{pid}/smaps") as stream:
        for line in stream:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                inside = words[5:] == [path]
            elif words[0] == "Size:" and inside:
                size += int(words[1]) * 1024
    assert size
    with open(path, "rb") as stream:
        loaded = [each for each in ELFFile(stream).iter_segments() if each["p_type"] == "PT_LOAD"]
    zeroed = sum(each["p_memsz"] - each["p_filesz"] for each in loaded)
    return range(size - 4096 * len(loaded), size + zeroed + 4096 * len(loaded) + 1)


def sum_of(libraries: Libraries, found: recording.Recording, functions: tuple[str, ...]) -> Sum:
    """Return all live samples of these functions."""
    named = libraries.sums(found, "made_").items()
    sums = [each for name, each in named if name.partition(":")[2].partition("(")[0] in functions]
    return Sum(sum(each.count for each in sums), sum(each.bytes for each in sums))
