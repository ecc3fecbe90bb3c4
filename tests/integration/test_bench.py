"""./bench itself: a quick run measures, prints and keeps; figures decide nothing here."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from tracing import run

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
    pytest.mark.skipif("MEMLEAK_TEST_HOME" not in os.environ, reason="MEMLEAK_TEST_HOME is not set"),
]


def test_a_quick_run_prints_a_table_and_keeps_what_it_saw(tmp_path):
    """The command is in the environment of ./test already, which it would prepare otherwise."""
    kept = tmp_path / "result.json"
    words = ["--quick", "--rounds", "1", "--workload", "malloc_pair", "--candidate", "memleak-normal", "memleak-full"]
    done = run(sys.executable, ROOT / "bench", *words, "--json", kept)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("malloc_pair      (stock twice)") for line in lines)
    assert any(line.startswith("malloc_pair      memleak-normal") and line.count("[") == 4 for line in lines), (
        done.stdout
    )
    held = json.loads(kept.read_text())
    assert held["quick"] and not held["complete"]
    assert [cell["candidate"] for cell in held["cells"]] == ["noise", "memleak-normal", "memleak-full"]
    assert [cell["failure"] for cell in held["cells"]] == ["", "", ""]
    raw = held["cells"][1]["raw"]
    assert [one[0] for one in raw] == list("ABBA")
    assert all(cpu > 0 and wall > 0 and kib > 500 and ns > 0 for _, cpu, wall, kib, ns in raw)
    # What is traced is traced: at 1/1 a pair takes many times as long.
    assert held["cells"][2]["ratios"]["inner_ns"]["median"] > 3
