"""What `memleak ps` says of each recording."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from recordingwriter import RecordingWriter

from memleak import locate, recording
from memleak.cli.ps import age_s


@pytest.fixture
def header(tmp_path):
    """Of a recording begun a hundred seconds ago."""
    file = tmp_path / "4711-100-0000000000000001.mlrec"
    begun = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - 100 * 10**9, time.time_ns() - 100 * 10**9
    file.write_bytes(RecordingWriter(start_monotonic_ns=begun[0], start_realtime_ns=begun[1]).bytes())
    return recording.load(file).header


@pytest.mark.parametrize("set_by_s", [0, 86400, -86400])
def test_age_of_a_running_process_when_the_clock_is_set(header, monkeypatch, set_by_s):
    """It is as old as it is."""
    wall = time.time() + set_by_s
    monkeypatch.setattr(time, "time", lambda: wall)
    assert age_s(locate.Found(Path("x"), 4711, 100, True, header, pid_here=4711)) == pytest.approx(100, abs=10)


def test_age_of_one_that_is_gone(header):
    """By the wall clock: it may be of an earlier boot."""
    assert age_s(locate.Found(Path("x"), 4711, 100, False, header)) == pytest.approx(100, abs=10)
