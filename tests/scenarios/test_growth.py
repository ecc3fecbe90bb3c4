"""Real programs with a known truth before the verdict: a slice of `python tests/scenarios/growth`.

Each runs in full mode, at its own pace whatever the machine does, and is killed; then the recording alone is judged. At
the blamed line the verdict must be the expected one with its rate (within 5 %), its level inside the interval that is
printed and the forecast that follows, and nothing else may be called a leak. The long form runs all of them.
"""

from __future__ import annotations

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mariadbserver
import pytest

HERE = Path(__file__).resolve().parent / "growth"
sys.path.insert(0, str(HERE))

from running import build, run  # noqa: E402
from table import lines  # noqa: E402
from truth import read, scenarios  # noqa: E402

LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"
SLICE = (
    "buddy allocator",
    "DDL on a view, error path",
    "LRU cache, filling",
    "leak of 1 % of requests",
    "sawtooth",
    "start-up caches before a leak",
    "table cache, filling, limit 16 GiB",
)
AT_ONCE = 7  # they mostly sleep


def judge(names, tmp_path, **words):
    """Run scenarios of these names at once; nothing may be wrong of any."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    chosen = [one for one in scenarios() if one.name in names and "full" in one.modes]
    assert len(chosen) == len(names)
    commands = [build(one, tmp_path) for one in chosen]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(run, one, "full", one.seconds, command, words) for one, command in zip(chosen, commands)]
    outcomes = [one.result() for one in runs]
    print("\n".join(lines(outcomes)))
    assert {one.scenario.name: one.wrong for one in outcomes if one.wrong} == {}
    assert {one.scenario.name: one.lost for one in outcomes if one.lost} == {}


def test_programs_are_judged_by_their_recordings_alone(tmp_path):
    judge(SLICE, tmp_path)


@pytest.mark.skipif(not LONG, reason="long form: set MEMLEAK_TEST_LONG=1")
def test_the_other_programs_are_judged_by_their_recordings_alone(tmp_path):
    judge(
        [one.name for one in scenarios() if "full" in one.modes and not one.needs and one.name not in SLICE], tmp_path
    )


@pytest.mark.skipif(not LONG, reason="long form: set MEMLEAK_TEST_LONG=1")
def test_result_sets_of_mysqlclient_are_told_apart(tmp_path):
    missing = mariadbserver.missing()
    if missing is not None:
        pytest.skip(missing)
    with mariadbserver.serving(1000) as socket:
        judge([one.name for one in scenarios() if one.needs == "mariadb"], tmp_path, socket=socket)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1  # blamed\n", "no scenario"),
        ('"""A.\n\nscenario: b\nverdict: leak\n"""\n', "0 lines are blamed"),
        ('"""A.\n\nscenario: b\nverdict: leek\n"""\nx = 1  # blamed\n', "leek"),
        ('"""A.\n\nscenario: b\nverdict: leak\nspeed: 1\n"""\nx = 1  # blamed\n', "speed"),
    ],
)
def test_a_program_that_does_not_state_its_truth_is_refused(tmp_path, text, words):
    source = tmp_path / "program.py"
    source.write_text(text)
    with pytest.raises(ValueError, match=words):
        read(source)
