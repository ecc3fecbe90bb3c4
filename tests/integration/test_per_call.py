"""Bytes for each failed and each successful call, of a program whose path of errors forgets to clean up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from test_labels import python, traced  # noqa: F401
from tracing import PROGRAMS

from memleak import query
from memleak.percall import PerCall

LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"
SHORT_S, LONG_S = 4, 24  # a verdict takes 20 where every allocation is recorded
CALLS_A_SECOND = 100
SETTINGS = 300_000
SAMPLED = {
    "MEMLEAK_MODE": None, "MEMLEAK_SAMPLE_BYTES": "16384",
    "MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "2", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "16",
}  # fmt: skip


class Done(NamedTuple):
    """What a program did, by its own account."""

    pid: int
    failed: int
    succeeded: int
    held: int  # bytes, by the failed ones


@contextmanager
def program(python: str, runtime_directory, seconds: float, settings: int, **env) -> Iterator[Done]:  # noqa: F811
    tracer = traced(python, runtime_directory)
    words = (python, PROGRAMS / "failing_calls.py", seconds, CALLS_A_SECOND, settings)
    started = tracer.start(*words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Done(started.pid, *map(int, started.stdout.readline().split()))
    finally:
        started.communicate("\n", timeout=60)
    assert started.returncode == 0


def only(snapshot: query.Snapshot) -> PerCall:
    (one,) = snapshot.per_call()
    assert dict(one.labels) == {"sql": "SELECT ?", "route": "/orders"}
    return one


def test_figures_of_each_are_those_that_the_program_kept(python, runtime_directory):  # noqa: F811
    """Every allocation is recorded, so they are exact; what the first call made is laid to no other."""
    with program(python, runtime_directory, SHORT_S, SETTINGS) as done:
        one = only(query.open(done.pid))
    ok, failed = one.ended
    assert [(each.outcome, each.calls) for each in one.ended] == [("ok", done.succeeded), ("ValueError", done.failed)]
    print(one.finding)
    assert failed.per_call.value == pytest.approx(done.held / done.failed, rel=0.005)
    assert ok.est_bytes.value == pytest.approx(SETTINGS, rel=0.05)
    assert one.kind == "difference" and "each call that fails with ValueError has left 9.8 KiB" in one.finding


def test_figures_are_within_their_limits_where_samples_are_taken(python, runtime_directory):  # noqa: F811
    with program(python, runtime_directory, SHORT_S, 0, **SAMPLED) as done:
        one = only(query.open(done.pid))
    ok, failed = one.ended
    truth = done.held / done.failed
    print(f"{truth:.0f} bytes; {one.finding}")
    assert failed.per_call.low <= truth <= failed.per_call.high
    assert failed.per_call.high - failed.per_call.low < truth  # so it does say something
    assert ok.est_bytes.value < 50 * done.succeeded
    assert one.kind == "difference" and "fails with ValueError" in one.finding


@pytest.mark.skipif(not LONG, reason="long form: set MEMLEAK_TEST_LONG=1")
def test_a_leak_by_failing_is_told_by_the_verb(runtime_directory, tmp_path):
    with program(sys.executable, runtime_directory, LONG_S, SETTINGS) as done:
        query.open(done.pid).save(tmp_path / "leaking.mlrec")  # it stops calling here
    command = [sys.executable, "-m", "memleak", "verdict", str(tmp_path / "leaking.mlrec"), "--no-symbols"]
    words = subprocess.run(command, capture_output=True, text=True, timeout=60)
    answer = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60)
    assert (words.returncode, words.stderr, answer.returncode) == (3, "", 3)
    assert (
        "  leak: under route=/orders, sql=SELECT ? each call that fails with ValueError leaves 9.8 KiB behind;"
        " calls that succeed leave at most " in words.stdout
    )
    (one,) = json.loads(answer.stdout)["per_call"]
    ok, failed = one["ended"]
    assert one["kind"] == "leak" and (ok["calls"], failed["calls"]) == (done.succeeded, done.failed)
    assert failed["verdicts"]["leak"] >= 1 and "leak" not in ok["verdicts"]
    assert failed["left_per_call"]["value"] == pytest.approx(done.held / done.failed, rel=0.02)
    assert failed["growth_per_call"]["value"] == pytest.approx(done.held / done.failed, rel=0.1)
