"""memray and tracemalloc at the same time, in every order: no crash, and no block that is gone is shown as live."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from doors import Libraries
from tracing import LONG, Sum

from memleak import recording
from memleak.records import RecordedRow

PYTHON = {"pymalloc_obj", "pymalloc_mem"}
TOOLS = ["memray", "memray_native", "tracemalloc"]


@pytest.fixture
def holders(program) -> str:
    """A library with functions that keep blocks."""
    return program("doors/holders.c", "-shared", "-fPIC", "-fno-builtin", name="holders.so")


class Looks:
    """What tracers.py saw: the recording at each look, and what was out of reach then."""

    def __init__(self, output: str, holders: str, directory: Path) -> None:
        """Take what it printed and where it left its recordings."""
        self.out = [line.split()[1:] for line in output.splitlines() if line.startswith("out ")]
        self.libraries = Libraries([holders])
        self.directory = directory

    def found(self, name: str) -> recording.Recording:
        """Return a recording."""
        return recording.load(self.directory / f"{name}.mlrec")

    def live(self, name: str) -> dict[str, int]:
        """Return how many blocks of each holder are live in a recording."""
        sums = self.libraries.sums(self.found(name), "make_", depth=4)
        return {site.partition("make_")[2]: found.count for site, found in sums.items()}

    def out_of_reach(self, name: str, reason: str) -> set[str]:
        """Return the files that were out of reach at a look, for one reason."""
        return {file for look, why, file in self.out if look == name and why == reason}


@pytest.fixture
def together(door, holders, tmp_path):
    """Run tracers.py: ``together(tool, actions)``."""

    def go(tool: str, actions: str) -> Looks:
        if tool.startswith("memray"):
            pytest.importorskip("memray", reason="memray is not installed")
        # Through the preload door it records already; the order then begins with another recording.
        first = ["memleak-"] if door.name == "preload" else []
        done = door.python("tracers.py", tool, holders, tmp_path, *first, *actions.split())
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1].startswith("end ")
        return Looks(done.stdout, holders, tmp_path)

    return go


def assert_makes(looks: Looks, name: str, expected: dict[str, int]) -> None:
    """All blocks of *expected* are there, and no other."""
    assert looks.live(name) == {holder: count for holder, count in expected.items() if count}


ORDERS = [
    (first, last)
    for first in ("memleak+ other+", "other+ memleak+")
    for last in ("other- memleak-", "memleak- other-")
]


@pytest.mark.parametrize("tool", TOOLS)
def test_every_order(together, tool):
    """One after another, nothing crashes or hangs; each time both have let go, memleak sees everything again."""
    actions = []
    for number, (first, last) in enumerate(ORDERS):
        work = "make:a work drop:a make:b work"
        again = f"memleak+ make:c work drop:b make:d drop:c look:again{number} drop:d memleak-"
        actions += [first, work, last, "work", again]
    looks = together(tool, " ".join(actions))
    for number in range(len(ORDERS)):
        assert_makes(looks, f"again{number}", {"d": 1000})
        assert looks.found(f"again{number}").samples_lost == {}


@pytest.mark.parametrize("tool", TOOLS)
def test_blocks_that_went_unseen_are_not_live(together, tool):
    """Made before the other tool came, freed while it held the hooks: they are closed once that is noticed."""
    looks = together(
        tool,
        "memleak+ make:a make:b look:before other+ drop:a make:c look:during other- drop:c look:after make:d look:end",
    )
    assert_makes(looks, "before", {"a": 1000, "b": 1000})
    after, end = looks.live("after"), looks.live("end")
    assert after.get("a", 0) == 0
    assert after.get("c", 0) == 0
    # What lives on is shown, or its samples were closed: counted, so that the answer says it is not exact.
    closed = looks.found("after").header.counters["displaced"]
    assert after.get("b", 0) == 1000 or closed >= 1000
    assert end == {**after, "d": 1000}


@pytest.mark.parametrize("tool", TOOLS if LONG else ["memray", "tracemalloc"])
def test_a_tool_that_was_there_first(together, tool):
    """It lets go while memleak runs; the next look finds the places free and takes them."""
    looks = together(tool, "other+ memleak+ make:a look:during other- drop:a look:after make:b look:end")
    assert looks.live("after").get("a", 0) == 0
    assert_makes(looks, "end", {"b": 1000})


def test_hooks_of_another_tool_are_named(together, door):
    """While memray is in the slots, the objects are out of reach; afterwards they are not."""
    looks = together("memray", "memleak+ other+ look:1 other- look:2 memleak- other+ memleak+ look:3 other- look:4")
    for during, after in (("1", "2"), ("3", "4")):
        held = looks.out_of_reach(during, "other_tool")
        if door.name == "import":
            assert "holders.so" in held
            assert any("python" in name for name in held)
        assert looks.out_of_reach(after, "other_tool") == set()


def test_tracemalloc_takes_nothing(together):
    """Its hooks stand above malloc: everything stays in reach and exact."""
    looks = together("tracemalloc", "memleak+ make:a other+ work make:b drop:a look:during other- make:c look:after")
    assert looks.out_of_reach("during", "other_tool") == set()
    assert_makes(looks, "during", {"b": 1000})
    assert_makes(looks, "after", {"b": 1000, "c": 1000})
    assert looks.found("after").samples_lost == {}
    assert looks.libraries.sums(looks.found("after"), "make_c") == {"holders.so:make_c": Sum(1000, 3333000)}


def test_memray_still_sees_everything(together, tmp_path):
    """Its own recording is whole: the blocks made while it ran are in it."""
    memray = pytest.importorskip("memray", reason="memray is not installed")
    for first in ("memleak+ other+", "other+ memleak+"):
        together("memray", f"{first} make:a work other- memleak-")
        path = tmp_path / "memray0.bin"
        with memray.FileReader(path) as reader:
            records = reader.get_high_watermark_allocation_records(merge_threads=True)
            counted = sum(record.n_allocations for record in records if record.size == 1111 * record.n_allocations)
        assert counted == 1000
        path.unlink()
    assert sys.modules.get("memray") is memray


# ---- small objects ---------------------------------------------------------------------------------------


class Objects:
    """What objects.py held, and what its recordings say of it."""

    def __init__(self, output: str, directory: Path) -> None:
        """Take what it printed and where it left its recordings."""
        self.held = {words[0]: Sum(int(words[1]), int(words[2])) for words in map(str.split, output.splitlines())}
        self.directory = directory

    def found(self, name: str) -> recording.Recording:
        """Return a recording."""
        return recording.load(self.directory / f"{name}.mlrec")

    def rows(self, name: str, function: str) -> list[RecordedRow]:
        """Return the rows of what a function of objects.py holds."""
        rows = [row for row in self.found(name).rows if row.live.samples]
        return [row for row in rows if function in [frame.name for frame in row.python_stack[:2]]]  # in a comprehension

    def blocks(self, name: str, function: str) -> Sum:
        """Return the blocks among them that Python handed out, but for few at a place: lists, numbers on the way."""
        mine = [row.live for row in self.rows(name, function) if row.mod_name in PYTHON and row.live.samples > 100]
        return Sum(sum(live.samples for live in mine), sum(live.bytes for live in mine))


@pytest.fixture
def objects(door, tmp_path):
    """Run objects.py: ``objects(actions)``."""

    def go(actions: str) -> Objects:
        first = ["memleak-"] if door.name == "preload" else []
        done = door.python("objects.py", tmp_path, *first, *actions.split())
        assert (done.returncode, done.stderr) == (0, "")
        return Objects(done.stdout, tmp_path)

    return go


@pytest.mark.parametrize("order", ["tracemalloc+ memleak+", "memleak+ tracemalloc+"])
def test_blocks_that_grow_under_tracemalloc(objects, order):
    """It notes by malloc what it hands out. A block that was moved is counted all the same, and its note is not Python's."""
    found = objects(f"{order} grow look:end")
    lists = [row.live for row in found.rows("end", "grow") if row.mod_name == "pymalloc_mem" and row.live.samples > 1]
    assert Sum(sum(live.samples for live in lists), sum(live.bytes for live in lists)) == found.held["grow"]
    notes = sum(row.live.samples for row in found.rows("end", "grow") if row.mod_name == "glibc_malloc")
    assert notes >= found.held["grow"].count
    assert found.found("end").samples_lost == {}


@pytest.mark.parametrize("door", ["import"], indirect=True)
@pytest.mark.parametrize("notices", ["thread tracemalloc- drop await:displaced", "tracemalloc- drop code"])
def test_objects_freed_unseen_are_noticed(objects, notices):
    """tracemalloc puts back what it found, and so takes away hooks in front of it: seen though nobody asks or imports."""
    found = objects(f"tracemalloc+ memleak+ make look:before {notices} look:after make look:again drop look:end")
    assert found.blocks("before", "make") == found.blocks("again", "make") == found.held["make"]
    assert found.blocks("after", "make") == found.blocks("end", "make") == (0, 0)
    assert found.found("after").samples_lost.keys() == {"displaced"}


def test_arenas_are_mappings_where_objects_are_not_sampled(objects):
    """Python's side is left alone from the second start on: then what its objects are cut from is counted instead."""
    found = objects("memleak+ make memleak- native+ " + "make " * 20 + "look:end")
    mapped = [row.live for row in found.found("end").rows if row.mod_name == "mmap"]
    assert sum(live.bytes for live in mapped) > 18 * found.held["make"].bytes
    assert not [row for row in found.found("end").rows if row.mod_name in PYTHON and row.live.samples > 100]
