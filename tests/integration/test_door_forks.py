"""Everything is asked of the core at once, also in forked children: no hang, and one answer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from doors import SOURCES
from tracing import LONG, assert_consistent

from memleak import recording

ROUNDS = 1000 if LONG else 25
CALLS, CHILDREN = (3000, 4000) if LONG else (25, 25)
TIMEOUT_S = 3500 if LONG else 150
SMALL = {"MEMLEAK_ROOM": "4M"}
NATIVE = Path(__file__).resolve().parents[2] / "native"

pytestmark = pytest.mark.timeout(3600 if LONG else 180)


def test_asked_while_a_childs_recording_is_opened(door, program, record_property):
    """Stopped is stopped, started is started once, polled is open, and a grandchild has its own."""
    binary = program("doors/children.c", "-fno-builtin", f"-I{NATIVE / 'include'}", "-ldl")
    core = "-" if door.name == "preload" else door.core
    done = door.run(binary, core, ROUNDS, env=SMALL, mode="normal", timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"good {4 * ROUNDS}\n", "")
    record_property("forks", 4 * ROUNDS)


def test_eight_threads_call_everything_and_the_process_forks(door, record_property):
    """start, stop, configure, mode, status and the rest at once; the last change is what counts in the end."""
    words = ("-W", "ignore", SOURCES / "calls.py", CALLS, CHILDREN)  # 3.12 and later warn of forks beside threads
    done = door.run(sys.executable, *words, env=SMALL, mode="normal", timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (0, "")
    record_property("forks", CHILDREN)
    problems, threads, end, path = done.stdout.splitlines()
    assert (problems, threads, end) == ("problems", "threads 8", "end recording normal 7 70")
    found = recording.load(path.removeprefix("recording "))
    assert_consistent(found)
    assert (found.header.state_name, found.header.requested[:2]) == ("exited", (7, 70))
    # What is kept of the ended processes, and each is sound.
    for one in door.recordings():
        assert_consistent(one)
