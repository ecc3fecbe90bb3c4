"""Forked children: whatever their threads ask of the core while it opens their recording, they get one answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from tracing import LONG

ROUNDS = 1000 if LONG else 25
SMALL = {"MEMLEAK_ROOM": "4M"}
NATIVE = Path(__file__).resolve().parents[2] / "native"

pytestmark = pytest.mark.timeout(3600 if LONG else 180)


def test_asked_while_a_childs_recording_is_opened(door, program):
    """Stopped is stopped, started is started once, polled is open, and a grandchild has its own."""
    binary = program("doors/children.c", "-fno-builtin", f"-I{NATIVE / 'include'}", "-ldl")
    core = "-" if door.name == "preload" else door.core
    done = door.run(binary, core, ROUNDS, env=SMALL, mode="normal", timeout=3500 if LONG else 120)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"good {4 * ROUNDS}\n", "")
