"""start, stop, configure, mode and tracing: in processes of their own, because there is one core in each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import memleak
from memleak import config, recording

DEFAULTS = (16, 256, 4 << 20)

PREAMBLE = """\
import ctypes, os, sys, threading
import memleak

def keep(count):
    malloc = ctypes.CDLL(None).malloc  # looked up anew: an address got before start() leads past the hooks
    malloc.restype = ctypes.c_void_p
    return [malloc(1000) for _ in range(count)]

def refused(function, *arguments, **named):
    try:
        function(*arguments, **named)
    except Exception as error:
        return type(error).__name__
    return "nothing"

def requested():
    return tuple(memleak.status().requested)
"""


def python(code: str, *options: str, **variables: str) -> subprocess.CompletedProcess:
    """Run *code* in a fresh interpreter, with the preamble."""
    return subprocess.run(
        [sys.executable, *options, "-c", PREAMBLE + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, env={**os.environ, **variables},
    )  # fmt: skip


def said(code: str, *options: str, **variables: str) -> str:
    """Run *code*, which must end well and write nothing on standard error; return its output."""
    done = python(code, *options, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(autouse=True)
def place(runtime_directory) -> Path:
    """Recordings of these tests stand apart."""
    return runtime_directory


def recordings(place: Path) -> list[recording.Recording]:
    """Read what is there, in the order of opening."""
    found = [recording.load(path) for path in place.glob("*.mlrec")]
    return sorted(found, key=lambda one: one.header.start_monotonic_ns)


# ---- arguments -------------------------------------------------------------------------------------------

BAD = [
    {"min_sample_interval": 0},
    {"max_sample_interval": 10001},
    {"min_sample_interval": 257},
    {"max_sample_interval": 15},
    {"min_sample_interval": 9, "max_sample_interval": 8},
    {"min_sample_interval": True},
    {"min_sample_interval": 4.0},
    {"max_sample_interval": "256"},
    {"sample_bytes": 4095},
    {"sample_bytes": -1},
    {"sample_bytes": "4M"},
]
BAD_START = [*BAD, {"max_frames": 0}, {"max_frames": 65}, {"max_frames": None}, {"recording": ""}, {"recording": "a\0b"}]


@pytest.mark.parametrize("arguments", BAD_START, ids=str)
def test_bad_values_are_refused_before_anything_happens(arguments, place):
    """ValueError, also on entry to tracing(), and nothing is started."""
    with pytest.raises(ValueError):
        memleak.start(**arguments)
    with pytest.raises(ValueError), memleak.tracing(**arguments):
        pytest.fail("not reached")
    assert not memleak.is_running()
    assert list(place.iterdir()) == []


def test_a_bad_value_beside_good_ones_changes_nothing():
    """Neither the knobs of a running recording, nor where its copy goes."""
    code = f"""
    memleak.start(20, 200)
    for bad in {BAD!r}:
        if "max_sample_interval" in bad and bad["max_sample_interval"] == 15:
            bad["max_sample_interval"] = 19
        for function in (memleak.start, memleak.configure):
            assert refused(function, **{{"sample_bytes": 8192, **bad}}) == "ValueError", bad
    assert refused(memleak.start, 30, recording="/nonexistent/x") == "FileNotFoundError"
    assert refused(memleak.start, 30, recording=5) == "TypeError"
    assert refused(memleak.mode, "loud") == "ValueError"
    print(requested(), memleak.mode())
    """
    assert said(code) == f"(20, 200, {4 << 20}) normal\n"


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ("", {}, DEFAULTS),
        ("", {"MEMLEAK_MODE": "full"}, (1, 1, 4 << 20)),
        ("", {"MEMLEAK_MODE": "off", "MEMLEAK_SAMPLE_BYTES": "1M"}, (10_000, 10_000, 1 << 20)),
        ("", {"_min_malloc_sample_interval": "3", "_max_malloc_sample_interval": "30"}, (3, 30, 4 << 20)),
        ("", {"_min_malloc_sample_interval": "3", "MEMLEAK_MIN_SAMPLE_INTERVAL": "5"}, (5, 256, 4 << 20)),
        ("16, 256", {"MEMLEAK_MODE": "full", "MEMLEAK_SAMPLE_BYTES": "8K"}, (16, 256, 8 << 10)),
        ("8", {"MEMLEAK_MIN_SAMPLE_INTERVAL": "4", "MEMLEAK_MAX_SAMPLE_INTERVAL": "64"}, (8, 64, 4 << 20)),
        ("sample_bytes=0", {"MEMLEAK_MODE": "full", "MEMLEAK_SAMPLE_BYTES": "8K"}, (1, 1, 0)),
        ("max_sample_interval=20", {"MEMLEAK_MIN_SAMPLE_INTERVAL": "10"}, (10, 20, 4 << 20)),
    ],
)
def test_arguments_win_over_the_environment(arguments, environ, expected):
    """What is not given comes from the environment, and else is the default."""
    code = f"memleak.start({arguments}); s = memleak.status(); print(tuple(s.requested) == tuple(s.effective), requested())"
    assert said(code, **environ) == f"True {expected}\n"


def test_an_environment_that_does_not_fit_gives_way():
    """What the code asks for is not made wrong by its surroundings; one line for each setting left out."""
    done = python(
        "memleak.start(min_sample_interval=32); print(requested())",
        MEMLEAK_MODE="full", MEMLEAK_SAMPLE_BYTES="few",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"(32, 256, {4 << 20})\n")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("memleak: MEMLEAK_SAMPLE_BYTES ignored: ")
    assert lines[1].startswith("memleak: max_sample_interval of the environment ignored: ")


def test_most_frames_are_kept_as_asked(place):
    """A backtrace has at most max_frames frames."""
    said("memleak.start(1, 1, max_frames=3); held = keep(100)")
    (found,) = recordings(place)
    assert found.header.max_frames == 3
    assert max(len(row.stack) for row in found.rows) == 3


# ---- starting and stopping -------------------------------------------------------------------------------


def test_starting_again_changes_only_what_is_given(place):
    """One recording; knobs as by configure()."""
    code = """
    memleak.start(20, 200)
    path = memleak.status().recording
    memleak.start()
    memleak.start(max_sample_interval=100)
    memleak.start(sample_bytes=0, max_frames=5)
    assert memleak.status().recording == path
    print(requested())
    """
    assert said(code, MEMLEAK_MIN_SAMPLE_INTERVAL="7") == "(20, 100, 0)\n"
    (found,) = recordings(place)
    assert found.header.max_frames == 64


def test_many_threads_start_one_recording(place):
    """All return when it is on."""
    code = """
    barrier = threading.Barrier(16)
    seen = []
    def run():
        barrier.wait()
        memleak.start()
        seen.append(memleak.is_running())
    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(seen == [True] * 16)
    """
    assert said(code) == "True\n"
    assert len(recordings(place)) == 1


def test_stop_freezes_and_start_opens_a_new_one(place):
    """stop() may come first and twice; the frozen recording stays readable."""
    code = """
    memleak.stop()
    memleak.start(1, 1)
    held = keep(500)
    memleak.stop(); memleak.stop()
    first = memleak.status()
    held += keep(500)
    assert memleak.snapshot().recordings[0].raw == memleak.snapshot().recordings[0].raw
    assert not memleak.is_running() and memleak.snapshot().alive == (False,)
    assert memleak.status().samples == first.samples >= 500
    for change in (memleak.mode, memleak.configure, lambda: memleak.mode("full")):
        assert refused(change) == "TargetError"
    memleak.start()
    second = memleak.status()
    print(first.state, second.state, first.recording == second.recording)
    """
    assert said(code) == "stopped recording False\n"
    first, second = recordings(place)
    assert (first.header.state_name, second.header.state_name) == ("stopped", "exited")


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
    print(memleak.is_running(), refused(memleak.start, strict=True), refused(memleak.configure), refused(memleak.snapshot))
    """
    done = python(code, PYTHONPATH=without_core, PYTHONSAFEPATH="1")
    assert (done.returncode, done.stdout) == (0, "False CoreError CoreError CoreError\n")
    assert re.fullmatch(r"memleak: not tracing: loading libmemleak.so: .*; reinstall the memleak package\n", done.stderr)


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


PRIVATE = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
memleak.is_running()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # no descriptor for a directory
memleak.start(1, 1{more})
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
held = keep(700)
"""


def test_private_memory_is_recorded_said_and_readable(place, tmp_path):
    """When no directory can be had: one line, a snapshot from memory, and a copy that anybody can read."""
    target = tmp_path / "copy.mlrec"
    code = PRIVATE.format(more=f", recording={str(target)!r}") + (
        "status = memleak.status()\n"
        "memleak.configure(sample_bytes=0)\n"
        "print(status.private, status.recording, requested())\n"
        "print(sum(1 for sample in memleak.snapshot().recordings[0].live if sample[1] == 1000) >= 700)\n"
        "assert 'private memory' in str(status)\n"
    )
    done = python(code)
    assert (done.returncode, done.stdout) == (0, "True None (1, 1, 0)\nTrue\n")
    assert done.stderr.startswith("memleak: recording in private memory") and done.stderr.count("\n") == 1
    assert list(place.iterdir()) == []
    assert sum(1 for sample in recording.load(target).live if sample[1] == 1000) >= 700


# ---- knobs -----------------------------------------------------------------------------------------------


def test_configure_and_mode(place):
    """A knob that is not given keeps its value; the pair is checked together; others see it."""
    code = """
    assert refused(memleak.configure, sample_bytes=0) == "TargetError"
    assert refused(memleak.mode) == refused(memleak.mode, "full") == "TargetError"
    memleak.start()
    memleak.configure(min_sample_interval=100); print(requested())
    assert refused(memleak.configure, max_sample_interval=99) == "ValueError"
    memleak.configure(); print(requested())
    memleak.configure(min_sample_interval=2, max_sample_interval=3, sample_bytes=1 << 20)
    held = keep(200)
    assert tuple(memleak.status().effective) == requested() == (2, 3, 1 << 20)
    print([memleak.mode(name) for name in ("full", "off", "normal")], memleak.mode(), requested())
    """
    first = (100, 256, 4 << 20)
    assert said(code) == f"{first}\n{first}\n['full', 'off', 'normal'] normal (16, 256, {1 << 20})\n"


def test_knobs_changed_from_outside_are_kept():
    """`memleak set` writes the same words."""
    code = """
    import subprocess
    memleak.start()
    subprocess.run([sys.executable, "-m", "memleak", "set", str(os.getpid()), "max=99"], check=True, capture_output=True)
    memleak.configure(min_sample_interval=50)
    print(requested())
    """
    assert said(code) == f"(50, 99, {4 << 20})\n"


# ---- tracing() -------------------------------------------------------------------------------------------


def test_tracing_a_block_and_a_function(place):
    """On inside, off outside, whatever happens inside; a decorated function may call itself."""
    code = """
    with memleak.tracing(2, 20) as nothing:
        assert (memleak.is_running(), requested()[:2], nothing) == (True, (2, 20), None)
    assert not memleak.is_running()

    @memleak.tracing(max_sample_interval=30)
    def work(depth):
        "Words."
        assert memleak.is_running() and requested()[:2] == (16, 30)
        return work(depth - 1) + 1 if depth else 0

    assert (work(3), work.__name__, work.__doc__) == (3, "work", "Words.")
    assert not memleak.is_running()
    try:
        with memleak.tracing(): raise KeyError("x")
    except KeyError:
        print(memleak.is_running())
    """
    assert said(code) == "False\n"
    assert [found.header.state_name for found in recordings(place)] == ["stopped"] * 3


def test_tracing_inside_tracing_restores_the_knobs(place):
    """What was on stays on, with the knobs it had; one object may be entered twice."""
    code = """
    memleak.start(20, 200)
    narrow = memleak.tracing(1, 1)
    with narrow:
        assert requested()[:2] == (1, 1)
        with memleak.tracing(sample_bytes=0):
            assert requested() == (1, 1, 0)
            with narrow: pass
            assert requested() == (1, 1, 0)
        memleak.configure(max_sample_interval=5)
    print(requested())
    with memleak.tracing(): memleak.configure(max_sample_interval=150)
    print(requested())
    with memleak.tracing(1): memleak.stop()
    print(memleak.is_running())
    """
    assert said(code) == f"(20, 200, {4 << 20})\n(20, 150, {4 << 20})\nFalse\n"
    assert len(recordings(place)) == 1


# ---- the copy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["memleak.stop()", "", "sys.exit(0)", "memleak.stop(); memleak.start()"])
def test_copy_is_written_at_the_end(end, place, tmp_path):
    """At stop() or when the interpreter ends, once, to the place meant at the start, in place of an older file."""
    target = tmp_path / "copy.mlrec"
    target.write_text("old")
    code = f"""
    os.chdir({str(tmp_path)!r})
    memleak.start(1, 1, recording="copy.mlrec")
    os.chdir("/")
    held = keep(600)
    {end}
    """
    said(code)
    found, original = recording.load(target), recordings(place)[0]
    assert found.header.recording_id == original.header.recording_id
    assert sum(1 for sample in found.live if sample[1] == 1000) >= 600
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["copy.mlrec"]


def test_copy_of_a_program_that_fails(tmp_path):
    """An exception ends the interpreter too."""
    done = python(f"memleak.start(recording={str(tmp_path / 'x')!r}); raise KeyError('x')")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "KeyError: 'x'")
    assert recording.load(tmp_path / "x").header.pid


@pytest.mark.parametrize("directory", ["there", "there/", "new/deep/"])
def test_copy_into_a_directory_has_a_name_of_its_own(directory, place, tmp_path):
    """As `memleak run -o DIR/`: the name that the recording itself has."""
    (tmp_path / "there").mkdir()
    said(f"memleak.start(recording={str(tmp_path) + '/' + directory!r})")
    (original,) = place.glob("*.mlrec")
    assert [path.name for path in (tmp_path / directory).iterdir()] == [original.name]


def test_forked_children_write_no_copy(tmp_path):
    """Only the process that asked for it; a child may ask for its own."""
    code = f"""
    place = {str(tmp_path)!r}
    memleak.start(recording=place + "/parent")
    pid = os.fork()
    if pid == 0:
        memleak.stop()
        assert os.listdir(place) == []
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0 and os.listdir(place) == []
    pid = os.fork()
    if pid == 0:
        memleak.start(recording=place + "/child")
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0 and os.listdir(place) == ["child"]
    """
    said(code)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["child", "parent"]
    parent, child = recording.load(tmp_path / "parent").header, recording.load(tmp_path / "child").header
    assert child.parent_recording_id == parent.recording_id


def test_copy_of_what_was_on_already(tmp_path):
    """A later start() and tracing() may ask for one: of the same recording."""
    code = f"""
    place = {str(tmp_path)!r}
    memleak.start()
    with memleak.tracing(recording=place + "/block"): pass
    assert os.listdir(place) == ["block"] and memleak.is_running()
    memleak.start(recording=place + "/end")
    """
    said(code)
    block, end = recording.load(tmp_path / "block").header, recording.load(tmp_path / "end").header
    assert block.recording_id == end.recording_id


def test_a_directory_that_is_not_there_is_said_at_the_start(tmp_path):
    """An OSError that names it, before anything is started."""
    file = tmp_path / "file"
    file.write_text("")
    for target, error in ((tmp_path / "none/x", FileNotFoundError), (file / "x", NotADirectoryError)):
        with pytest.raises(error, match=re.escape(str(target.parent))):
            memleak.start(recording=target)
    with pytest.raises(OSError):
        memleak.start(recording=f"{file}/")
    with pytest.raises(TypeError):
        memleak.start(recording=5)
    if os.getuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError):
            memleak.start(recording=tmp_path / "x")
    assert not memleak.is_running()


def test_a_copy_that_fails_is_one_line(place, tmp_path):
    """The program ends as it would; the line says where the recording is."""
    (tmp_path / "there").mkdir()
    code = f"memleak.start(recording={str(tmp_path / 'there/x')!r}); os.rmdir({str(tmp_path / 'there')!r})"
    done = python(code)
    (original,) = place.glob("*.mlrec")
    assert done.returncode == 0
    assert re.fullmatch(rf"memleak: copy of the recording: .*; it stays at {re.escape(str(original))}\n", done.stderr)


# ---- other doors, forks ----------------------------------------------------------------------------------


def test_in_a_preloaded_process(core_path, place):
    """It is on already; knobs change; after stop() another recording may be opened."""
    code = """
    assert memleak.is_running() and memleak.status().door == "preload"
    memleak.start()
    assert requested() == (1, 1, 4 << 20)
    memleak.start(4, 40)
    memleak.stop()
    memleak.start(5, 50)
    print(memleak.status().door, requested())
    """
    assert said(code, LD_PRELOAD=core_path, MEMLEAK="1", MEMLEAK_MODE="full") == f"preload (5, 50, {4 << 20})\n"
    first, second = recordings(place)
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
            assert status.recording != mine.recording and requested() == (3, 30, 4 << 20)
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


def test_fork_while_another_thread_is_inside():
    """A lock held by a thread that the child does not have."""
    code = """
    from memleak import own
    memleak.start()
    held, free = threading.Event(), threading.Event()
    def hold():
        with own.lock:
            held.set()
            free.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        memleak.stop()
        memleak.start()
        os._exit(7 if memleak.is_running() else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    free.set()
    thread.join()
    """
    done = python(code, "-W", "ignore")
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_at_start_of_config():
    """The rule behind start(), without a process: given, else environment, else default."""
    at_start = config.at_start
    assert at_start({}, {}) == (DEFAULTS, [])
    assert at_start({"MEMLEAK_MODE": "full"}, {"sample_bytes": 0}) == ((1, 1, 0), [])
    knobs, warnings = at_start({"MEMLEAK_MAX_SAMPLE_INTERVAL": "20"}, {"min_sample_interval": 32})
    assert (knobs, len(warnings)) == ((32, 256, 4 << 20), 1)
    with pytest.raises(ValueError, match="min_sample_interval"):
        at_start({"MEMLEAK_MODE": "full"}, {"min_sample_interval": 300})
