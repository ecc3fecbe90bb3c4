"""Where tracing does not start, has started already, or goes on in a forked child."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ownprocess import PREAMBLE, python, recordings, said

import memleak


@pytest.fixture(autouse=True)
def place(runtime_directory) -> Path:
    """Recordings of these tests stand apart."""
    return runtime_directory


# ---- it does not start ------------------------------------------------------------------------------------


def test_disabled_by_the_environment(place):
    """Silent and without effect; strict says why; bad values are still refused."""
    code = """
    memleak.start()
    with memleak.tracing(): assert not memleak.is_running()
    print(memleak.is_running(), refused(memleak.start, strict=True), refused(memleak.start, 0))
    """
    assert said(code, MEMLEAK_DISABLE="1") == "False CoreError ValueError\n"
    assert said(code, MEMLEAK_DISABLE="1", MEMLEAK="1") == "False CoreError ValueError\n"
    assert list(place.iterdir()) == []
    assert said("memleak.start(); print(memleak.is_running())", MEMLEAK_DISABLE="0") == "True\n"


@pytest.fixture
def without_core(tmp_path) -> str:
    """A copy of the package without its compiled parts; the directory to put first on sys.path."""
    shutil.copytree(Path(memleak.__file__).parent, tmp_path / "memleak", ignore=shutil.ignore_patterns("*.so"))
    return str(tmp_path)


def test_without_a_core_the_program_goes_on(without_core, place):
    """One line for any number of starts; strict raises; everything else is as in a process without tracing."""
    code = """
    assert memleak.__file__.startswith(sys.path[0])
    memleak.start(); memleak.start()
    with memleak.tracing(): pass
    memleak.stop()
    status = memleak.status()
    assert (status.state, status.door, status.coverage) == ("not started", None, None)
    assert "reinstall" in status.why and "reinstall" in str(status)
    assert refused(memleak.start, 0) == "ValueError"
    functions = memleak.configure, memleak.mode, memleak.snapshot
    print(memleak.is_running(), refused(memleak.start, strict=True), *map(refused, functions))
    """
    done = python(code, PYTHONPATH=without_core, PYTHONSAFEPATH="1")
    assert (done.returncode, done.stdout) == (0, "False CoreError CoreError CoreError CoreError\n")
    expected = r"memleak: not tracing: loading libmemleak.so: .*; reinstall the memleak package\n"
    assert re.fullmatch(expected, done.stderr)


def test_core_of_another_build_is_one_line(core_path, tmp_path):
    """A preloaded core of another installation: this process is not ours to trace."""
    notes = subprocess.run(["readelf", "-n", core_path], capture_output=True, text=True, check=True).stdout
    ours = bytes.fromhex(re.search(r"Build ID: ([0-9a-f]+)", notes).group(1))
    other = tmp_path / "libmemleak.so"
    other.write_bytes(Path(core_path).read_bytes().replace(ours, bytes(20)))
    done = python("memleak.start(); memleak.stop(); print(refused(memleak.start, strict=True))", LD_PRELOAD=str(other))
    assert (done.returncode, done.stdout) == (0, "CoreError\n")
    assert done.stderr.startswith("memleak: not tracing: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("stderr", ["closed", "full"])
def test_nothing_to_write_the_line_on(without_core, stderr):
    """Standard error may be closed, or full."""
    code = PREAMBLE + "memleak.start(); print('on', flush=True)"
    redirect = "2>&-" if stderr == "closed" else "2>/dev/full"
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, code]
    environ = {**os.environ, "PYTHONPATH": without_core}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environ)
    assert done.stdout == "on\n"


# ---- other doors, forks ----------------------------------------------------------------------------------


def test_in_a_preloaded_process(core_path, place):
    """It is on already; knobs change; after stop() another recording may be opened."""
    code = """
    assert memleak.is_running() and memleak.status().door == "preload"
    memleak.start()
    assert requested() == (1, 1, 1, 1, 4 << 20)
    memleak.start(4, 40)
    memleak.stop()
    memleak.start(5, 50)
    print(memleak.status().door, requested())
    """
    variables = {"LD_PRELOAD": core_path, "MEMLEAK": "1", "MEMLEAK_MODE": "full", "MEMLEAK_PYTHON": "0"}
    assert said(code, **variables) == f"preload (5, 50, 256, 4096, {4 << 20})\n"
    first, _ = recordings(place)
    assert first.header.requested[:2] == (4, 40)
    # Without MEMLEAK=1 a preloaded core is off, until it is asked for.
    code = "assert not memleak.is_running(); memleak.start(); print(memleak.is_running(), memleak.status().door)"
    assert said(code, LD_PRELOAD=core_path) == "True preload\n"


def test_a_forked_child_has_its_own(place):
    """Asking opens its recording, with the parent's knobs; stopping it leaves the parent's alone."""
    code = """
    memleak.start(3, 30)
    mine = memleak.status()
    for ask in (memleak.is_running, memleak.snapshot, memleak.status, memleak.start, memleak.mode):
        pid = os.fork()
        if pid == 0:
            ask()
            status = memleak.status()
            assert (status.state, status.pid) == ("recording", os.getpid()) != ("recording", mine.pid)
            assert status.recording != mine.recording and requested() == (3, 30, 256, 4096, 4 << 20)
            memleak.stop()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    print(memleak.status().recording == mine.recording and memleak.is_running())
    """
    assert said(code) == "True\n"
    assert len(recordings(place)) == 6


def test_a_child_that_stops_at_once_shows_nothing_of_its_parent(place):
    """The parent's recording is still in its memory."""
    code = """
    memleak.start()
    pid = os.fork()
    if pid == 0:
        memleak.stop()
        status = memleak.status()
        assert (status.state, status.recording, status.samples) == ("stopped", None, 0), status
        os._exit(7 if refused(memleak.snapshot) == "TargetError" else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    assert said(code) == "7\n"
    assert len(recordings(place)) == 1


@pytest.mark.parametrize("lock", ["own.lock", "own.lock._lock"])
def test_fork_while_another_thread_is_inside(lock):
    """A lock held by a thread that the child does not have, also one that has just got it or is about to let go."""
    code = f"""
    from memleak import own
    memleak.start()
    held, free = threading.Event(), threading.Event()
    def hold():
        with {lock}:
            held.set()
            free.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        import signal
        signal.alarm(30)  # rather than hang
        memleak.stop()
        memleak.start()
        os._exit(7 if memleak.is_running() else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    free.set()
    thread.join()
    """
    done = python(code, "-W", "ignore")
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_fork_while_another_thread_looks_at_a_recording():
    """What is computed once is computed without a lock, which functools has before Python 3.12."""
    code = """
    import signal
    from memleak.grouping import Source
    held, free = threading.Event(), threading.Event()
    class Slow:
        @property
        def header(self):
            held.set()
            free.wait()
            raise KeyError
    def look():
        source = Source.__new__(Source)
        source.recording = Slow()
        for name in ("exact_reasons", "steady", "svr_ip"):
            assert refused(getattr, source, name) == "KeyError"
    memleak.start()
    thread = threading.Thread(target=look)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # rather than hang
        os._exit(7 if memleak.status().state == "recording" else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    free.set()
    thread.join()
    """
    done = python(code, "-W", "ignore")
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")
