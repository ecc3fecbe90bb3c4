"""`memleak verdict`, the command: of a running process, a killed one, two workers, and of nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from recordingwriter import RecordingWriter

MEMLEAK = [sys.executable, "-m", "memleak"]
SECONDS = 24.0  # in full mode 20 are the least
SLOW, FAST = 200 * 100, 500 * 400  # bytes a second

# Two leaks, and a table that is made at the start; with an argument the table alone.
SERVICE = """
#include <stdlib.h>
#include <time.h>

void *table[50];

static void session_begin(void) { *(char *)malloc(400) = 1; }
static void token_new(void) { *(char *)malloc(100) = 1; }
static void table_load(void) { for (int n = 0; n < 50; n++) table[n] = malloc(1000); }

int main(int argc, char **argv) {
    struct timespec began, now;
    clock_gettime(CLOCK_MONOTONIC, &began);
    table_load();
    for (long sessions = 0, tokens = 0;;) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        double passed = now.tv_sec - began.tv_sec + (now.tv_nsec - began.tv_nsec) / 1e9;
        free(malloc(200));
        for (; argc == 1 && sessions < 500 * passed; sessions++)
            session_begin();
        for (; argc == 1 && tokens < 200 * passed; tokens++)
            token_new();
    }
}
"""


class Services(NamedTuple):
    """What runs, and what was said of the first while it was young."""

    workers: list[int]
    killed: Path
    quiet: int
    directory: Path
    young: subprocess.CompletedProcess


def verdict(*words: object) -> subprocess.CompletedProcess:
    """Run the verb."""
    return subprocess.run([*MEMLEAK, "verdict", *map(str, words)], capture_output=True, text=True, timeout=60)


def told(*words: object) -> tuple[int, dict]:
    """Return its status and its answer in JSON."""
    done = verdict(*words, "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def services(compiled, core_path: str) -> Iterator[Services]:
    """Two workers that leak and a third that was killed, in one directory; one that does not leak in another."""
    binary = compiled(SERVICE, "-fno-builtin", "-fno-inline", name="leaking")
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="memleak-test-", dir=base))
    elsewhere = directory / "quiet"
    elsewhere.mkdir(mode=0o700)

    def start(where: Path, *words: str) -> subprocess.Popen:
        own = {"MEMLEAK_DIR": str(where), "MEMLEAK_MODE": "full", "MEMLEAK": "1", "LD_PRELOAD": core_path}
        return subprocess.Popen([binary, *words], env={**os.environ, **own})

    began = time.monotonic()
    leaking = [start(directory) for _ in range(3)]
    quiet = start(elsewhere, "quiet")
    try:
        while len(list(directory.glob("*.mlrec"))) < 3 or not list(elsewhere.glob("*.mlrec")):
            assert time.monotonic() - began < 60
            time.sleep(0.05)
        time.sleep(2)
        young = verdict(leaking[0].pid, "--all")
        time.sleep(max(0.0, began + SECONDS - time.monotonic()))
        leaking[2].kill()
        leaking[2].wait()
        (killed,) = directory.glob(f"{leaking[2].pid}-*.mlrec")
        yield Services([one.pid for one in leaking[:2]], killed, quiet.pid, directory, young)
    finally:
        for process in (*leaking, quiet):
            process.kill()
            process.wait()
        shutil.rmtree(directory)


def test_running_process_with_leaks(services):
    done = verdict(services.workers[0], "--no-symbols", "--all")
    assert done.returncode == 3 and done.stderr == ""
    assert "#1  leak, " in done.stdout and "session_begin" not in done.stdout and "leaking+0x" in done.stdout

    done = verdict(services.workers[0])
    assert done.returncode == 3 and done.stderr == ""
    assert "\n2 stacks: leak; 1 stack: step. All together: leak, " in done.stdout
    first, second = (done.stdout.index(f"\n#{n}  leak, ") for n in (1, 2))
    assert first < done.stdout.index("session_begin") < second < done.stdout.index("token_new")
    assert "comes at a steady rate for " in done.stdout
    assert "#3" not in done.stdout and "table_load" not in done.stdout
    assert "own cost: " in done.stdout

    everything = verdict(services.workers[0], "--all").stdout
    assert everything.index("#3  step; 48.8 KiB live") < everything.index("table_load")
    one = verdict(services.workers[0], "-n", "1")
    assert one.returncode == 3 and "2 stacks: leak" in one.stdout
    assert "session_begin" in one.stdout and "token_new" not in one.stdout


def test_json_has_what_the_words_have(services):
    status, answer = told(services.workers[0])
    assert status == 3
    assert set(answer) == {
        "verdicts", "counts", "leaks", "growing", "whole", "forecast", "left_out", "per_call", "materialised", "footer",
    }  # fmt: skip
    assert answer["per_call"] == answer["materialised"] == []
    assert (answer["counts"], answer["leaks"], answer["growing"]) == ({"leak": 2, "step": 1}, 2, 2)
    assert answer["left_out"] == 0 and answer["whole"]["verdict"] == "leak"
    fast, slow = answer["verdicts"]
    for found, rate, frame in ((fast, FAST, "session_begin ("), (slow, SLOW, "token_new (")):
        assert found["verdict"] == "leak" and found["evidence"] and found["level"] is None
        assert found["rate"]["value"] == pytest.approx(rate, rel=0.05)
        assert found["p"] < 1e-6 and found["window_s"] > 15
        assert found["row"]["native_trace"].startswith(frame)
        assert found["row"]["samples"] == found["samples"]
    forecast = answer["forecast"]
    if forecast is not None:  # there is a limit
        assert forecast["rate"][0] == pytest.approx(FAST + SLOW, rel=0.05) and forecast["levels_above"] is None
    assert answer["footer"]["sampling"][0]["mode"] == "full"
    assert len(told(services.workers[0], "--all")[1]["verdicts"]) == 3
    assert len(told(services.workers[0], "-n", "1")[1]["verdicts"]) == 1


def test_killed_process_is_judged_from_its_recording(services):
    status, answer = told(services.killed)
    assert (status, answer["leaks"], answer["left_out"]) == (3, 2, 0)
    assert answer["verdicts"][0]["rate"]["value"] == pytest.approx(FAST, rel=0.05)
    assert "session_begin" in verdict(services.killed).stdout


def test_workers_are_judged_as_one_and_the_dead_are_left_out(services):
    status, answer = told(services.directory)
    assert (status, answer["leaks"], answer["left_out"]) == (3, 2, 1)
    assert [one["rate"]["value"] for one in answer["verdicts"]] == pytest.approx([2 * FAST, 2 * SLOW], rel=0.05)
    assert answer["forecast"] is None  # each has its own limit
    words = verdict(services.directory).stdout
    assert "2 stacks: leak" in words and "note: not judged: 1 recording of processes that have ended" in words


def test_process_without_leaks(services):
    done = verdict(services.quiet)
    assert done.returncode == 0 and done.stderr == ""
    assert "\n1 stack: step. All together: step\n" in done.stdout and "#1" not in done.stdout
    status, answer = told(services.quiet)
    assert (status, answer["verdicts"], answer["leaks"], answer["growing"]) == (0, [], 0, 0)


def test_young_process_gets_no_verdicts(services):
    assert services.young.returncode == 0 and services.young.stderr == ""
    assert "3 stacks: too few samples. All together: too few samples: seen for " in services.young.stdout
    assert "it takes 20 s\n" in services.young.stdout


def test_empty_recording_has_nothing_to_judge(tmp_path):
    path = tmp_path / "empty.mlrec"
    path.write_bytes(RecordingWriter().bytes())
    done = verdict(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no live samples: nothing to judge" in done.stdout
    status, answer = told(path, "--all")
    assert (status, answer["verdicts"], answer["counts"]) == (0, [], {})
    assert answer["whole"]["verdict"] == "too few samples"


@pytest.mark.parametrize(
    ("words", "status"), [(["/nowhere.mlrec"], 1), (["-n", "0", "/"], 2), (["--native", "--python", "/"], 2), ([], 2)]
)
def test_what_cannot_be_judged_is_one_line(words, status):
    done = verdict(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("memleak verdict: ")
