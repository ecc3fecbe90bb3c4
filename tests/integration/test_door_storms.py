"""Tracing is switched on and off while everything else happens at once: no crash, no hang, nothing left over."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest
from doors import Door, Libraries, module_flags
from tracing import LONG, Sum, assert_consistent

from memleak import recording

TOGGLES = 10_000 if LONG else 150
IN_PYTHON = 10_000 if LONG else 60  # each waits its turn among nine threads, several times
COPIES = 100 if LONG else 20
ALONE = 10_000 if LONG else 60
# memray alone, without us, dies of this now and then: a segmentation fault after 380 rounds was seen.
WITH_MEMRAY = 100 if LONG else 20
LOADS = 100_000 if LONG else 10_000  # of each thread
PLUGS = 16
TIMEOUT_S = 1750 if LONG else 120
# One arena, so that the address space does not depend on which threads met in malloc.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
# What is live is little. Half of the recordings are in full mode, which begins with all of its room in memory: 20 ms.
SMALL = {"MEMLEAK_ROOM": "4M"}
THEIRS = (":allocating", ":loading", ":churn_blocks", ":hold_block")  # functions of storm.c and storm_extension.c
NATIVE = Path(__file__).resolve().parents[2] / "native"

pytestmark = pytest.mark.timeout(1800 if LONG else 180)


@pytest.fixture(scope="module")
def plugs(program_of_module, tmp_path_factory) -> list[str]:
    """Sixteen plug-ins of four builds, whose functions stand at other places."""
    directory = tmp_path_factory.mktemp("plugs")
    paths = []
    for number in range(PLUGS):
        flags = ("-fno-plt",) if number % 4 == 3 else ("-Wl,-z,lazy",) if number % 4 == 1 else ()
        built = program_of_module("plug.c", f"-DVARIANT={number % 4}", *flags, name=f"plug{number % 4}.so")
        paths.append(shutil.copy(built, directory / f"plug_{number}.so"))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def program_of_module(program):
    """Compile one of programs/doors/ as a library."""

    def build(source: str, *flags: str, name: str) -> str:
        return program(f"doors/{source}", "-shared", "-fPIC", "-fno-builtin", *flags, name=name)

    return build


@pytest.fixture
def storm(program) -> str:
    """The C program."""
    return program("doors/storm.c", "-fno-builtin", f"-I{NATIVE / 'include'}", "-ldl")


def live_of_threads(libraries: Libraries, found: recording.Recording) -> list[str]:
    """Return the stacks of live samples that the threads of a storm have allocated, or what they loaded.

    Left out is thread-local storage: it belongs to the loader, which frees it when it needs the place.
    """
    live = []
    for row in found.rows:
        names = libraries.stack(found, row) if row.live.samples else []
        theirs = [n for n in names if n.startswith(("plug_", "[copy_")) or n.endswith(THEIRS)]
        if theirs and not names[0].startswith("[ld-"):
            live.append(f"{row.live.samples} {row.mod_name} {' '.join(names)}")
    return live


def made_by(libraries: Libraries, found: recording.Recording, function: str) -> int:
    """Return how many allocations were recorded that a function asked for, of all libraries."""
    rows = [row for row in found.rows if libraries.stack(found, row)[0].endswith(f":{function}")]
    return sum(row.alloc_samples for row in rows)


class Storm:
    """What storm.c printed and recorded."""

    def __init__(self, output: str, binary: str, plugs: list[str]) -> None:
        """Read its output and its recordings."""
        self.lines = dict(line.split(" ", 1) for line in output.splitlines())
        self.binary = Path(binary).name
        self.libraries = Libraries([binary, *plugs])
        self.last = recording.load(self.lines["recording"])
        self.through = recording.load(self.lines["storm"])

    def assert_nothing_stale(self, found: recording.Recording) -> None:
        """Whatever the plug-ins and the threads allocated is gone, and nobody had to guess that."""
        assert_consistent(found)
        assert found.samples_lost == {}
        assert live_of_threads(self.libraries, found) == []

    def assert_exact(self) -> None:
        """The last recording, in full mode, holds what is live, and saw whatever was made since it began."""
        self.assert_nothing_stale(self.last)
        kept = self.libraries.sums(self.last, "keep_last", depth=1)
        assert kept == {f"{self.binary}:keep_last": Sum(500, 50000)}
        counted = [made_by(self.libraries, self.last, function) for function in ("plug_make", "plug_work")]
        assert counted == [int(self.lines["made"]), int(self.lines["worked"])]


def storm_of(door: Door, storm: str, plugs: list[str], *words: object, **env: str) -> Storm:
    """Run it; a preloaded core is found by its names, another by its path."""
    core = "-" if door.name == "preload" else door.core
    done = door.run(storm, core, *words, *plugs, env={**ONE_ARENA, **env}, timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (0, "")
    return Storm(done.stdout, storm, plugs)


def assert_room_is_bounded(directory: Path) -> None:
    """Sixteen dead recordings and the one in use, each within its room."""
    files = list(directory.iterdir())
    assert 1 <= len(files) <= 17
    assert sum(path.stat().st_blocks * 512 for path in files) <= (64 + 32) << 20


def test_toggling_while_threads_allocate_and_load(door, storm, plugs, record_property):
    """Four threads allocate, four load and unload plug-ins, the main thread starts and stops."""
    record_property("starts and stops", TOGGLES)
    seen = storm_of(door, storm, plugs, "toggle", TOGGLES, 4, 4, 100, **SMALL)
    seen.assert_exact()
    # It began among the threads and saw them to their end.
    seen.assert_nothing_stale(seen.through)
    assert made_by(seen.libraries, seen.through, "plug_work") > 1000
    assert made_by(seen.libraries, seen.through, "allocating") > 1000
    assert_room_is_bounded(door.directory)


def test_loading_under_a_steady_recording(door, storm, plugs, record_property):
    """One recording of four threads that load and unload: plug-ins come and go where others were, all are seen."""
    seen = storm_of(door, storm, plugs, "steady", 0, 0, 4, LOADS)
    assert int(seen.lines["made"]) == 4 * LOADS + PLUGS
    record_property("objects loaded", 4 * LOADS)
    seen.assert_exact()


def test_toggling_costs_nothing_for_ever(door, storm, plugs):
    """With no other thread: address space and descriptors are the same after the second half of it as before."""
    seen = storm_of(door, storm, plugs, "toggle", ALONE, 0, 0, 0, **(SMALL if LONG else {}))
    assert seen.lines["growth"] == "0 0"
    seen.assert_exact()
    assert_room_is_bounded(door.directory)


def test_toggling_while_python_allocates_and_imports(door, program_of_module, plugs, tmp_path):
    """Four threads allocate, two import extension modules, two unload plug-ins, the main thread starts and stops."""
    built = program_of_module("storm_extension.c", *module_flags(), name="storm_extension.so")
    extension = shutil.copy(built, tmp_path / "storm_extension.so")
    words = (IN_PYTHON, extension, COPIES, *plugs)
    done = door.python("storm.py", *words, env={**ONE_ARENA, **SMALL}, timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["problems"] in lines
    said = {line[0]: line[1:] for line in lines}
    before, after = said["descriptors"]
    assert after == before
    assert int(said["imported"][0]) >= 2 * COPIES
    libraries = Libraries([extension, *plugs])
    through, last = recording.load(said["through"][0]), door.last()
    assert libraries.sums(last, "keep_block", depth=1) == {"storm_extension.so:keep_block": Sum(400, 49200)}
    for found in (through, last):
        assert_consistent(found)
        assert found.samples_lost == {}
        seen = {name.partition("_")[0] for row in found.rows for name in libraries.stack(found, row)}
        assert seen >= {"plug", "storm"} | ({"[copy"} if found is through else set())
        assert live_of_threads(libraries, found) == []
    assert_room_is_bounded(door.directory)


# memray that is stopped beside threads dies of itself now and then, without us too: in one of some hundred rounds.
MEMRAYS_DEATHS = (-signal.SIGSEGV, -signal.SIGBUS)


@pytest.mark.parametrize("how", ["below", "top", "both"])
def test_memray_comes_and_goes_meanwhile(door, program_of_module, plugs, tmp_path, how):
    """memray or memleak, or each by itself, while threads allocate and load: both patch the same objects at once.

    Then either is gone and nothing is stale, and memleak sees everything again.
    """
    pytest.importorskip("memray", reason="memray is not installed")
    extension = program_of_module("storm_extension.c", *module_flags(), name="storm_extension.so")
    for attempt in range(3):
        place = tmp_path / str(attempt)  # memray refuses a file that is there
        place.mkdir()
        words = (how, WITH_MEMRAY, place, extension, *plugs)
        done = door.python("tracers_storm.py", *words, env=ONE_ARENA, timeout=TIMEOUT_S)
        if done.returncode not in MEMRAYS_DEATHS:
            break
    assert (done.returncode, done.stderr) == (0, "")
    said = {line[0]: line[1:] for line in map(str.split, done.stdout.splitlines())}
    assert said["problems"] == []
    ours, memrays = map(int, said["rounds"])
    assert (ours > 0, memrays > 0) == (how != "below", how != "top")
    libraries = Libraries([extension, *plugs])
    through, last = (recording.load(place / f"{name}.mlrec") for name in ("through", "last"))
    # Through the preload door memray's hooks end in ours. Else what it had meanwhile was closed, and that is told.
    assert through.samples_lost.keys() <= ({"displaced", "lost"} if door.name == "import" else set())
    assert last.samples_lost == {}
    for found in (through, last):
        assert_consistent(found)
        assert live_of_threads(libraries, found) == []
        assert made_by(libraries, found, "plug_work") >= 40 * 10
    assert libraries.sums(last, "keep_block", depth=1) == {"storm_extension.so:keep_block": Sum(400, 49200)}
    assert made_by(libraries, last, "plug_make") == PLUGS
    assert made_by(libraries, last, "plug_work") == 40 * PLUGS


PYTHON_TOGGLES = """
import gc, os, sys, memleak
def size():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[0]) * 4096, len(os.listdir("/proc/self/fd"))
def toggle(count):
    for i in range(count):
        memleak.start(min_sample_interval=1, max_sample_interval=1)
        held = [bytearray(1000) for _ in range(20)]
        if i % 10 == 0:
            memleak.status()
        memleak.stop()
toggle(int(sys.argv[1]) // 2)
before = size()
toggle(int(sys.argv[1]) // 2)
after = size()
print(after[0] - before[0] <= 4 << 20, after[1] - before[1], len(os.listdir("/proc/self/task")))
"""


def test_toggling_in_python_costs_nothing_for_ever(door):
    """start(), status() and stop() in a row: no address space (arenas of Python's may come), descriptor or thread."""
    done = door.run(sys.executable, "-c", PYTHON_TOGGLES, ALONE, env={**ONE_ARENA, **SMALL}, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True 0 1\n", "")
    assert_room_is_bounded(door.directory)
