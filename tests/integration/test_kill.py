"""Recordings that were not finished: of killed processes, and copied while being written."""

from __future__ import annotations

import random
import shutil
import subprocess
import time

import pytest
from tracing import LONG, Functions, Tracer, assert_consistent

from memleak import recording
from memleak.query import Snapshot

THREADS = 4
KILLS = 50 if LONG else 12
COPIES = 1000 if LONG else 60


@pytest.fixture
def load(program) -> str:
    """A program that allocates until it is killed."""
    return program("load.c")


def started(tracer: Tracer, load: str, mode: str = "full") -> subprocess.Popen:
    """Start it and wait until it is at work."""
    # Little room, so that most of a copy is tables that change.
    process = tracer.start(load, THREADS, mode=mode, env={"MEMLEAK_ROOM": "4M"}, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def assert_good(found: recording.Recording, functions: Functions) -> None:
    """Check one copy: each row consistent, at most one torn sample for each thread, names known."""
    assert found.incomplete == ()
    assert found.torn <= THREADS
    assert found.samples_lost == {}
    assert_consistent(found)
    for row in found.rows:
        assert not row.missing
        assert row.freed_samples <= row.alloc_samples + THREADS
        names = functions.stack(found, row)
        assert row.overflow or names, "a row without a backtrace"
    for row in Snapshot(found).rows():
        assert row.est_bytes >= 0
        assert row.est_count >= 0
        assert 0 <= row.est_bytes_low <= row.est_bytes <= row.est_bytes_high


@pytest.mark.parametrize("mode", ["full", "normal"])
def test_killed_at_random_moments(tracer, load, mode):
    """SIGKILL under load leaves a recording that reads, every time."""
    functions = Functions(load)
    moments = random.Random(2)
    torn = 0
    for _ in range(KILLS if mode == "full" else KILLS // 4):
        process = started(tracer, load, mode)
        # Some in the first milliseconds, when tables and modules are being added.
        time.sleep(moments.choice((0.0, 0.001, 0.01, 0.1)) * moments.random() + moments.random() * 0.05)
        process.kill()
        process.wait()
        found = tracer.only(load)
        assert found.header.state_name == "recording"
        assert sum(row.live.samples for row in found.rows) > 0
        torn += found.torn
        check_dead(found, functions)
        tracer.forget()
    print(f"torn samples: {torn}")


def check_dead(found: recording.Recording, functions: Functions) -> None:
    """Nothing changes any more: rows and live set differ by what was in flight, one call a thread."""
    assert_good(found, functions)
    in_flight = sum(abs(row.alloc_samples - row.freed_samples - row.live.samples) for row in found.rows)
    assert in_flight + found.torn <= 2 * THREADS


def test_killed_while_it_opens_its_recording(tracer, load):
    """Either it reads, or it says that it was never completed; nothing else is left."""
    moments = random.Random(3)
    seen = {"read": 0, "never completed": 0, "no file": 0}
    for _ in range(60 if LONG else 20):
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


def test_copies_of_a_recording_in_use(tracer, load, tmp_path):
    """`cp`, and the reader's own copy, during 100,000 samples a second: all read, each row consistent."""
    functions = Functions(load)
    process = started(tracer, load)
    try:
        (path,) = list(tracer.directory.glob("*.mlrec"))
        began, before = time.monotonic(), recording.load_header(path).counters["samples"]
        torn = 0
        for turn in range(COPIES):
            if turn % 2:
                found = recording.load(path)
            else:
                subprocess.run(["cp", path, tmp_path / "copy"], check=True)
                found = recording.load(tmp_path / "copy")
            assert_copied(found, functions)
            torn += found.torn
        samples = recording.load_header(path).counters["samples"] - before
        rate = samples / (time.monotonic() - began)
        print(f"{COPIES} copies, {torn} torn samples left out, {rate:,.0f} samples/s")
        assert process.poll() is None
        assert rate >= 100_000
    finally:
        process.kill()
        process.wait()
    shutil.rmtree(tmp_path)


def assert_copied(found: recording.Recording, functions: Functions) -> None:
    """What holds in a copy made while four threads were writing: counters may be ahead of the live set."""
    assert found.incomplete == ()
    assert found.samples_lost == {}
    assert_consistent(found)
    assert sum(row.live.samples for row in found.rows) > 100
    for row in found.rows:
        assert row.overflow or functions.stack(found, row), "a row without a backtrace"
    for row in Snapshot(found).rows():
        assert row.est_bytes >= 0
        assert 0 <= row.est_bytes_low <= row.est_bytes <= row.est_bytes_high
