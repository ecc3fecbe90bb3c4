"""A service leaks until it is killed for want of memory; what is left of it names the line, in memory and on a volume."""

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
from cgroup import limited

from memleak import recording

SERVICE = Path(__file__).resolve().parent / "postmortem" / "service.py"
LIMITS = {"cgroup": 96 << 20, "data": 256 << 20}
NAMES = {"cgroup": "the cgroup's limit", "data": "RLIMIT_DATA"}
DEADLINE_S = 100


class Dead(NamedTuple):
    """What a service has left behind."""

    kind: str
    pid: int
    recordings: Path
    volume: Path


@pytest.fixture(scope="module", params=LIMITS)
def dead(request: pytest.FixtureRequest) -> Iterator[Dead]:
    """Run the service into its limit."""
    recordings = Path(tempfile.mkdtemp(prefix="memleak-test-", dir="/dev/shm"))
    volume = Path(tempfile.mkdtemp(prefix="memleak-test-"))
    try:
        yield Dead(request.param, run_to_its_end(request.param, recordings, volume / "kept"), recordings, volume / "kept")
    finally:
        shutil.rmtree(recordings, ignore_errors=True)
        shutil.rmtree(volume, ignore_errors=True)


def run_to_its_end(kind: str, recordings: Path, volume: Path) -> int:
    """Start the service, let it go on when its mark is written and kept, see it killed; return its pid."""
    limit = LIMITS[kind]
    with limited(limit) as cgroup:
        if kind == "cgroup" and cgroup is None:
            pytest.skip("needs root that may make memory cgroups")

        def enter() -> None:
            if kind == "cgroup":
                (cgroup / "cgroup.procs").write_text(f"{os.getpid()}\n")

        variables = {**os.environ, "MEMLEAK_DIR": str(recordings), "MEMLEAK_KEEP_DIR": str(volume), "MEMLEAK_ROOM": "4M"}
        service = subprocess.Popen(
            [sys.executable, SERVICE, str(limit), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables, preexec_fn=enter,
        )  # fmt: skip
        try:
            assert service.stdout.readline() == "near\n", service.stderr.read()
            deadline = time.monotonic() + DEADLINE_S
            while not marked(recordings) or not marked(volume):
                assert time.monotonic() < deadline and service.poll() is None, "no mark was written"
                time.sleep(0.05)
            (kept,) = map(recording.load, volume.glob("[0-9]*.mlrec"))
            assert kept.header.limit_seen_cs - kept.marks[-1].cs < 100, "the copy was not made at once"
            _, errors = service.communicate("go on\n", timeout=DEADLINE_S)
        finally:
            service.kill()
            service.wait()
        assert (service.returncode, errors) == (-9, "")
    return service.pid


QUIET = """
import memleak, sys, threading
memleak.start()
threading.Thread(target=sys.stdin.read).start()
"""


def test_marks_of_a_version_2_cgroup(tmp_path, runtime_directory):
    """Its files stand in for one here: what they say each second becomes marks, a level once on the way up."""
    (tmp_path / "memory.max").write_text("1000000000\n")
    current = tmp_path / "memory.current"
    current.write_text("500000000\n")
    mount = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /sys/fs/cgroup && exec "$@"', str(tmp_path)]
    if os.getuid() != 0 or subprocess.run([*mount, "true"]).returncode:
        pytest.skip("needs root that may mount")
    service = subprocess.Popen([*mount, sys.executable, "-c", QUIET], stdin=subprocess.PIPE)
    try:
        seen: list[int] = []
        for used, expected in ((850, [80]), (970, [80, 95]), (600, [80, 95]), (910, [80, 95, 90])):
            before = max((recording.load_header(path).limit_seen_cs for path in runtime_directory.glob("[0-9]*")), default=0)
            fresh = current.with_name("new")
            fresh.write_text(f"{used * 10**6}\n")
            fresh.replace(current)
            deadline = time.monotonic() + DEADLINE_S
            while True:
                found = [recording.load(path) for path in runtime_directory.glob("[0-9]*.mlrec")]
                if found and found[0].header.limit_used_bytes == used * 10**6 and found[0].header.limit_seen_cs > before:
                    break
                assert time.monotonic() < deadline and service.poll() is None
                time.sleep(0.05)
            seen = [mark.level_percent for mark in recording.load(found[0].origin).marks]
            assert seen == expected
        assert found[0].header.limit_name == "the cgroup's limit"
    finally:
        service.communicate(timeout=DEADLINE_S)


def marked(directory: Path) -> bool:
    """Whether the recording there has a mark."""
    return any(recording.load(path).marks for path in directory.glob("[0-9]*.mlrec"))


def memleak(*words: object, **variables: str) -> str:
    """Run one verb to its end and return what it prints."""
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-m", "memleak", *map(str, words)], capture_output=True, text=True, timeout=DEADLINE_S, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def culprit() -> str:
    """Where the bug is."""
    lines = SERVICE.read_text().splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if line.endswith("# the culprit")]
    return f"remember at {SERVICE}:{number}"


@pytest.mark.parametrize("place", ["recordings", "volume"])
def test_the_line_is_named(dead, place):
    """From the recording in memory and from its copy: the stack, its thread, how it grew, and how near the limit was."""
    directory = getattr(dead, place)
    answer = json.loads(memleak("postmortem", directory, "--json"))
    assert (answer["pid"], answer["state"], answer["others"]) == (dead.pid, "killed", [])
    top = answer["rows"][0]
    assert str(next(frame["function"] for frame in top["frames"] if frame["kind"] == "python")) == "remember"
    assert top["est_bytes"] > 0.6 * LIMITS[dead.kind]
    assert top["threads"][0]["est_bytes"] == top["est_bytes"]
    first = answer["marks"][0]
    assert first["level_percent"] == 80 and first["kind"] == NAMES[dead.kind]
    assert 0.8 * LIMITS[dead.kind] <= first["used_bytes"] <= first["limit_bytes"]
    assert first["limit_bytes"] == answer["limit"]["bytes"] == LIMITS[dead.kind]
    assert top["marks"][0] == first["largest_bytes"][0] > 0.5 * LIMITS[dead.kind]
    words = memleak("postmortem", directory)
    assert f"    {culprit()}" in words
    assert ("the kernel's OOM killer is the likely cause" in words) == (dead.kind == "cgroup")
    assert "sampling: full" in words and "own cost: " in words


def test_what_was_held_at_the_end(dead):
    """The recording in memory goes on to the last block before the kernel acted: it holds more than at the mark."""
    answer = json.loads(memleak("postmortem", dead.pid, "--json", MEMLEAK_DIR=str(dead.recordings)))
    (grown,) = [row for row in answer["grown"] if row["grown_bytes"] > 0.02 * LIMITS[dead.kind]]
    assert grown["back_trace"] == answer["rows"][0]["back_trace"]
    assert culprit() in memleak("postmortem", MEMLEAK_DIR=str(dead.recordings)).split("GREW SINCE")[1]


def test_ps_tells_a_death_near_the_limit(dead):
    """In the recordings' directory and in that of the copies."""
    for directory in (dead.recordings, dead.volume):
        (line,) = memleak("ps", "--dead", directory).splitlines()[1:]
        assert str(dead.pid) in line
        assert ("killed at " in line) and f" % of {NAMES[dead.kind]}" in line
