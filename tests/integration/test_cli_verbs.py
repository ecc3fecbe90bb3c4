"""The reading verbs, on the example service while it runs and after it was killed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memleak import locate
from memleak.config import DEFAULTS

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
PYTHON_8_80 = {"python_min_sample_interval": 8, "python_max_sample_interval": 80}
MEMLEAK = [sys.executable, "-m", "memleak"]


def memleak(*words: object) -> subprocess.CompletedProcess:
    """Run one verb to its end."""
    return subprocess.run([*MEMLEAK, *map(str, words)], capture_output=True, text=True, timeout=60)


@pytest.fixture
def service(compiled, runtime_directory, core_path):
    """The example service, started by preload alone, serving until it is killed."""
    binary = compiled(EXAMPLES / "leaky_service.c")
    variables = {**os.environ, "LD_PRELOAD": core_path, "MEMLEAK": "1"}
    process = subprocess.Popen([binary, "0"], stdout=subprocess.DEVNULL, env=variables)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = locate.list_recordings([runtime_directory])
        if found and found[0].header.counters["samples"] > 100:
            break
        time.sleep(0.05)
    yield process.pid
    process.kill()
    process.wait()


def test_reading_verbs_on_a_running_process(service, tmp_path, runtime_directory):
    """ps, top, status, sql, save, symbolize, doctor: each finds it by its pid."""
    (entry,) = json.loads(memleak("ps", "--json", runtime_directory).stdout)
    assert (entry["pid"], entry["command"], entry["state"], entry["mode"]) == (
        service,
        "leaky_service",
        "running",
        "normal",
    )
    assert "leaky_service" in memleak("ps").stdout

    top = memleak("top", service)
    assert top.returncode == 0
    assert "SAMPLED alloc_bytes" in top.stdout
    assert "session_create at " in top.stdout
    assert "own cost: " in top.stdout
    answer = json.loads(memleak("top", service, "--json", "-n", "1").stdout)
    assert answer["rows"][0]["native_trace"].startswith("session_create")
    assert answer["footer"]["exact"] is False

    grouped = json.loads(memleak("top", service, "--group-by", "function", "--json").stdout)
    assert grouped["rows"][0]["group"] == "session_create"
    plain = memleak("top", service, "--no-symbols").stdout
    assert "session_create" not in plain
    assert "0x" in plain
    assert memleak("top", service, "--where", "mod_name=mmap").stdout.count("#1") == 0

    status = json.loads(memleak("status", service, "--json").stdout)[0]
    assert status["effective"] == DEFAULTS._asdict() and not status["counts_python"]
    assert status["door"] == "preload"
    assert f"pid {service}" in memleak("status", service).stdout

    query = "SELECT mod_name, alloc_count FROM malloc_sample_info WHERE alloc_count > 0 ORDER BY est_bytes DESC LIMIT 1"
    rows = list(csv.reader(io.StringIO(memleak("sql", service, query, "--csv").stdout)))
    assert rows[0] == ["mod_name", "alloc_count"]
    assert rows[1][0] == "glibc_malloc"
    assert json.loads(memleak("sql", service, query, "--json").stdout)[0]["mod_name"] == "glibc_malloc"
    assert "1. row" in memleak("sql", service, query, "--vertical").stdout
    assert "glibc_malloc" in memleak("sql", service, query).stdout

    copy = tmp_path / "copy.mlrec"
    assert memleak("save", service, "-o", copy).stdout == f"{copy}\n"
    assert "session_create" in memleak("symbolize", copy).stdout
    again = memleak("save", service, "-o", copy)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)

    doctor = memleak("doctor", service)
    assert doctor.returncode == 0, doctor.stdout
    assert "the core is loaded" in doctor.stdout
    assert "door preload" in doctor.stdout
    hooks = re.search(r"hooks: (\d+) of (\d+) allocating objects; estimated live .*, anonymous memory ", doctor.stdout)
    assert hooks is not None and hooks[1] == hooks[2] != "0", doctor.stdout
    assert "out of reach" not in doctor.stdout
    assert f"coverage: {hooks[1]} of {hooks[2]} allocating objects; " in top.stdout


def test_set_is_adopted_while_it_runs(service):
    """Within the next allocations, by every name of a knob; a bad value changes nothing."""
    changed = json.loads(memleak("set", service, "mode=full", "--json").stdout)
    assert changed["adopted"] is True
    assert changed["effective"]["min_sample_interval"] == changed["effective"]["max_sample_interval"] == 1
    for words in (["min=0"], ["min=20", "max=10"], ["sample_bytes=1"], ["min=abc"], ["mode=on"]):
        refused = memleak("set", service, *words)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), words
    status = json.loads(memleak("status", service, "--json").stdout)[0]
    assert status["requested"]["max_sample_interval"] == 1
    assert memleak("set", service, "min=10", "max=100").returncode == 0


def test_python_adopts_what_is_set(runtime_directory, core_path):
    """At the interpreter's next small objects; while it sleeps, `set` says that it has not."""
    work_on_request = "held = [object() for _ in range(20000)]; print('done', flush=True)"
    code = f"import sys\nfor line in sys.stdin: {work_on_request}"
    variables = {**os.environ, "LD_PRELOAD": core_path, "MEMLEAK": "1"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables) as process:

        def work():
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        work()
        asked = memleak("set", process.pid, "--python-min", "8", "--python-max", "80")
        assert asked.returncode == 0
        assert "python_min 8 python_max 80" in asked.stdout and "not adopted yet for Python's" in asked.stdout
        work()
        status = json.loads(memleak("status", process.pid, "--json").stdout)[0]
        assert status["adopted"] and status["effective"] == {**DEFAULTS._asdict(), **PYTHON_8_80}
        samples = status["counters"]["samples"]
        work()
        after = json.loads(memleak("status", process.pid, "--json").stdout)[0]["counters"]["samples"]
        assert after - samples >= 20000 / 80
        process.stdin.close()


def test_killed_process_is_read_by_the_same_verbs(service, runtime_directory):
    """SIGKILL leaves the recording: ps --dead finds it, top reads it."""
    os.kill(service, signal.SIGKILL)
    os.waitpid(service, 0)
    assert json.loads(memleak("ps", "--json", runtime_directory).stdout) == []
    (entry,) = json.loads(memleak("ps", "--dead", "--json", runtime_directory).stdout)
    assert entry["state"] == "killed"
    assert "session_create" in memleak("top", entry["path"]).stdout
    assert "session_create" in memleak("top", runtime_directory).stdout
    refused = memleak("set", entry["path"], "mode=off")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_postmortem_of_a_program_without_threads(service, runtime_directory):
    """Its limit was looked at when it began; its stacks are complete to the last moment."""
    refused = memleak("postmortem", service)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1 and f"is running: memleak top {service} shows" in refused.stderr
    os.kill(service, signal.SIGKILL)
    os.waitpid(service, 0)
    left = memleak("postmortem", service)
    assert (left.returncode, left.stderr) == (0, "")
    assert f"leaky_service (pid {service} on " in left.stdout and ": killed, recorded " in left.stdout
    assert "    session_create at " in left.stdout
    assert re.search(r"^limit +\S+ \S+ \(.*\): \d+ % used", left.stdout, re.MULTILINE)
    assert left.stdout.splitlines()[-1].startswith("recording: ")
    assert memleak("postmortem", runtime_directory).stdout == left.stdout


def test_reader_that_goes_away_is_no_error(service):
    """`memleak top | head -1` ends without a word."""
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(MEMLEAK)} symbolize {service} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_doctor_names_what_is_wrong(runtime_directory, monkeypatch):
    """A directory of the wrong mode, a bad setting, a process that is not traced."""
    assert memleak("doctor").returncode == 0
    runtime_directory.chmod(0o755)
    assert "others may enter" in memleak("doctor").stdout
    runtime_directory.chmod(0o700)
    for name, words in (
        (runtime_directory / "kept", "ok    copies: {}: gets copies of recordings"),
        ("kept", "warn  copies: {}: not an absolute path; no copies are kept there"),
        ("/dev/shm", "warn  copies: {}: mode 777, others may enter; chmod 700 it; no copies are kept there"),
        ("/nonexistent/kept", "warn  copies: {}: the directory that is to hold it does not exist; no copies are kept there"),
    ):
        monkeypatch.setenv("MEMLEAK_KEEP_DIR", str(name))
        assert words.format(name) in memleak("doctor").stdout.splitlines()
    monkeypatch.delenv("MEMLEAK_KEEP_DIR")
    monkeypatch.setenv("MEMLEAK_MIN_SAMPLE_INTERVAL", "many")
    assert "MEMLEAK_MIN_SAMPLE_INTERVAL" in memleak("doctor").stdout
    monkeypatch.setenv("MEMLEAK_FOCUS", "libfoo.so")
    assert "MEMLEAK_FOCUS ignored: focus 'libfoo.so' is not one that is known" in memleak("doctor").stdout
    monkeypatch.delenv("MEMLEAK_FOCUS")
    done = memleak("doctor", os.getpid())
    assert done.returncode == 1
    assert "the core is not loaded: it was started without it" in done.stdout
    found = json.loads(memleak("doctor", "999999999", "--json").stdout)
    assert found[-1]["level"] == "fail"
