"""Recordings that were not finished: of killed processes, and copied while being written."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tracing import LONG, Functions, Sum, Tracer, assert_consistent, ledger

from memleak import layout, recording
from memleak.decode import unpack_directory
from memleak.query import Snapshot

THREADS = 4
KILLS = 160 if LONG else 12
COPIES = 1000 if LONG else 30


class Load(NamedTuple):
    """A running load.c, and what it holds from before it said so to its end."""

    process: subprocess.Popen
    held: dict[str, Sum]


@pytest.fixture
def load(program) -> str:
    """A program that allocates until it is killed."""
    return program("load.c")


def started(tracer: Tracer, load: str, mode: str = "full") -> Load:
    """Start it and wait until it is at work."""
    # Little room, so that most of a copy is tables that change.
    process = tracer.start(load, THREADS, mode=mode, env={"MEMLEAK_ROOM": "4M"}, stdout=subprocess.PIPE, text=True)
    held = ledger(process.stdout.readline())
    assert process.stdout.readline() == "ready\n"
    assert held["keep_always"].count >= 1000
    return Load(process, held)


def assert_good(found: recording.Recording, functions: Functions) -> None:
    """What holds in every copy, whenever it was made: rows are whole, and no sample has another's place or size."""
    assert found.incomplete == ()
    assert found.samples_lost == {}
    assert_consistent(found)
    for row in found.rows:
        assert not row.missing
        assert row.overflow or functions.stack(found, row), "a row without a backtrace"
    assert_own_sizes(found, functions)
    for row in Snapshot(found).rows():
        assert row.est_bytes >= 0
        assert row.est_count >= 0
        assert 0 <= row.est_bytes_low <= row.est_bytes <= row.est_bytes_high


def assert_own_sizes(found: recording.Recording, functions: Functions) -> None:
    """A block's size tells its place: what is put together of two samples would not fit."""
    names = [functions.at(found, row.stack[0]) if row.stack else "" for row in found.rows]
    places = [re.fullmatch(r"low_(\d)|again", name) for name in names]
    expected = {index: int(place.group(1) or 31) for index, place in enumerate(places) if place}
    rows = [(found.row_index_of(sample[0]), sample[1] % 32) for sample in found.live]
    known = [(index, remainder) for index, remainder in rows if index in expected]
    assert len(known) > (1000 if found.header.mode == "full" else 0)
    assert [one for one in known if one[1] != expected[one[0]]] == []


# ---- killed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "normal"])
def test_killed_at_random_moments(tracer, load, record_property, mode):
    """SIGKILL under load leaves a recording that reads, every time."""
    functions = Functions(load)
    moments = random.Random(2)
    kills = KILLS if mode == "full" else KILLS // 4
    record_property("kills", kills)
    for _ in range(kills):
        process, held = started(tracer, load, mode)
        # Some in the first milliseconds, when tables and modules are being added.
        time.sleep(moments.choice((0.0, 0.001, 0.01, 0.1)) * moments.random() + moments.random() * 0.05)
        process.kill()
        process.wait()
        found = tracer.only(load)
        assert found.header.state_name == "recording"
        assert sum(row.live.samples for row in found.rows) > 0
        assert_good(found, functions)
        assert mode != "full" or functions.sums(found, "keep_") == held
        check_dead(found, THREADS)
        tracer.forget()


def check_dead(found: recording.Recording, threads: int) -> None:
    """Nothing changes any more: rows and live set differ by what was in flight, one sample for each thread."""
    # A module that was met while the room was full has its name once there is room again.
    assert all("module name" in why and found.header.counters["module_full"] for why in found.incomplete)
    assert_consistent(found)
    # A key is stored when its entry is whole and taken out before the entry changes, so a thread that was killed in
    # between left a slot without a key. Readers of a live file tear samples by copying the two one after the other.
    assert found.torn == 0
    gone = [row.alloc_samples - row.freed_samples - row.live.samples for row in found.rows]
    thinned = found.header.counters["thinned"]
    in_flight = abs(sum(gone) - thinned) if thinned else sum(map(abs, gone))
    assert in_flight <= threads
    assert all(row.freed_samples <= row.alloc_samples + threads for row in found.rows)


def test_killed_while_it_opens_its_recording(tracer, load, record_property):
    """Either it reads, or it says that it was never completed; nothing else is left."""
    moments = random.Random(3)
    seen = {"read": 0, "never completed": 0, "no file": 0}
    kills = 160 if LONG else 20
    record_property("kills", kills)
    for _ in range(kills):
        process = tracer.start(load, 1, stdout=subprocess.DEVNULL)
        time.sleep(moments.random() * 0.08)
        process.kill()
        process.wait()
        paths = list(tracer.directory.iterdir())
        if not paths:
            seen["no file"] += 1
            continue
        (path,) = paths
        try:
            assert_consistent(recording.load(path))
            seen["read"] += 1
        except recording.RecordingError as error:
            # The first page may still be all zero, or shorter than a page.
            assert any(words in str(error) for words in ("never completed", "header alone", "does not begin with"))
            seen["never completed"] += 1
        path.unlink()
    print(seen)


# ---- killed while it grows ---------------------------------------------------------------------------

LIBRARIES = 80  # each makes room; with what is there before they need a second segment of modules
GROWING = {"MEMLEAK_MIN_SAMPLE_INTERVAL": "1", "MEMLEAK_MAX_SAMPLE_INTERVAL": "2"}  # full mode has all its room at once


class Growth(NamedTuple):
    """How far a recording has grown."""

    backed: int  # bytes, as its header says
    blocks: int  # bytes the file has: more than it says while room is being made
    segments: int

    @classmethod
    def of(cls, fd: int) -> Growth:
        """Look at an open recording."""
        page = os.pread(fd, layout.HEADER_BYTES, 0)
        (backed,) = struct.unpack_from("<Q", page, layout.HEADER.offsets["room_backed"])
        (segments,) = struct.unpack_from("<I", page, layout.HEADER.offsets["segment_count"])
        return cls(backed, os.fstat(fd).st_blocks * 512, segments)

    @property
    def goes_on(self) -> bool:
        """Whether the kernel is at it: the memory comes before the header says so."""
        return self.blocks > self.backed


def kill_when(process: subprocess.Popen, path: Path, moment: Callable[[Growth], bool]) -> Growth:
    """Kill a process at a moment of its recording's growth; return how far that came."""
    fd = os.open(path, os.O_RDONLY)
    deadline = time.monotonic() + 60
    while not moment(Growth.of(fd)):
        assert process.poll() is None and time.monotonic() < deadline
    process.kill()
    process.wait()
    growth = Growth.of(fd)
    os.close(fd)
    return growth


def test_killed_while_the_recording_grows(tracer, program, tmp_path, record_property):
    """SIGKILL in recording_grow(), right after a segment was added, and at random: what there is reads, every time."""
    binary = program("filling.c", "-ldl")
    plug = program("doors/plug.c", "-shared", "-fPIC", name="plug.so")
    libraries = [shutil.copy(plug, tmp_path / f"plug{number}.so") for number in range(LIBRARIES)]
    functions, moments = Functions(binary), random.Random(4)
    tables: set[tuple[int, int]] = set()
    inside = grown = 0
    kills = 50 if LONG else 6
    record_property("kills", kills)
    for kill in range(kills):
        process = tracer.start(binary, THREADS, *libraries, mode="normal", env=GROWING, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        (path,) = tracer.paths()
        backed, segments, then = moments.randrange(4 << 20, 28 << 20), moments.randrange(7, 16), moments.random() * 0.3
        then += time.monotonic()
        ways: list[Callable[[Growth], bool]] = [
            lambda growth, least=backed: (growth.backed >= least and growth.goes_on) or growth.backed >= 31 << 20,
            lambda growth, least=segments: growth.segments >= least,
            lambda growth, then=then: time.monotonic() >= then,
        ]
        growth = kill_when(process, path, ways[kill % 3])
        found = tracer.only(binary)
        assert found.header.state_name == "recording"
        check_dead(found, THREADS + 1)  # one is short-lived
        for row in found.rows:
            assert row.overflow or functions.stack(found, row), "a row without a backtrace"
        directory = unpack_directory(found.raw[layout.DIRECTORY_OFFSET : layout.ROOM_OFFSET])
        tables |= {(segment.kind, segment.order) for segment in directory}
        inside += growth.goes_on
        grown += 3 << 20 < growth.backed < found.header.file_bytes
        tracer.forget()
    print(f"{kills} kills, {inside} of them inside recording_grow(), {grown} between the first room and the last")
    assert inside and grown >= kills // 3
    added = {kind for kind, order in tables if order}
    assert added >= {layout.KIND_LIVE, layout.KIND_ROW_INDEX, layout.KIND_STACK_INDEX}


# ---- copied ------------------------------------------------------------------------------------------


class Pace:
    """How many samples a second a process takes while it may run."""

    def __init__(self, process: subprocess.Popen, path: Path) -> None:
        """Begin with a running process and its recording."""
        self.process, self.path = process, path
        self.samples, self.seconds = 0, 0.0
        self._resume()

    def _resume(self) -> None:
        self._first, self._began = recording.load_header(self.path).counters["samples"], time.monotonic()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep it from running meanwhile, and do not count that time."""
        self.process.send_signal(signal.SIGSTOP)
        self.seconds += time.monotonic() - self._began
        self.samples += recording.load_header(self.path).counters["samples"] - self._first
        yield
        self._resume()
        self.process.send_signal(signal.SIGCONT)


@pytest.mark.timeout(3600 if LONG else 180)
def test_copies_of_a_recording_in_use(tracer, load, tmp_path):
    """`cp`, and every other time the reader's own copy, at 100,000 samples a second: all read, each row consistent."""
    functions = Functions(load)
    process, held = started(tracer, load)
    torn: dict[str, list[int]] = {"cp": [], "reader": []}
    try:
        (path,) = list(tracer.directory.glob("*.mlrec"))
        pace = Pace(process, path)
        for turn in range(COPIES):
            for how in ("cp", "reader")[: 1 + turn % 2]:
                before = recording.load_header(path).counters["samples"]
                if how == "cp":
                    subprocess.run(["cp", path, tmp_path / "copy"], check=True)
                found = None if how == "cp" else recording.load(path)
                after = recording.load_header(path).counters["samples"]
                with pace.stopped():
                    found = found or recording.load(tmp_path / "copy")
                    assert_good(found, functions)
                    # What was there all the time is in every copy, whole, and never among the torn.
                    assert functions.sums(found, "keep_") == held
                # An entry is torn when its slot was used anew between the copying of its key and of itself: at most
                # once for each insertion meanwhile, of which each thread may have one in hand, not counted yet.
                assert found.torn <= after - before + THREADS
                torn[how].append(found.torn)
        rate = pace.samples / pace.seconds
        for how, numbers in torn.items():
            print(f"{how}: {len(numbers)} copies, {sum(numbers)} torn samples left out, {max(numbers)} of one at most")
        print(f"{rate:,.0f} samples/s")
        assert process.poll() is None
        assert rate >= 100_000
    finally:
        process.kill()
        process.wait()
    shutil.rmtree(tmp_path)
