"""Surroundings that are wrong, missing or full: the program runs all the same, and one line says what is amiss."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from settingcases import INTERVALS, SHARES, SIZES
from tracing import Functions, Sum, assert_consistent, outcome, private_tmpfs, run

import memleak
from memleak import recording

as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
NOBODY = 65534
NEEDED = ("elftools", "sortedcontainers")  # what the package imports when it names functions


@pytest.fixture
def settings(program) -> str:
    """A program that prints its environment."""
    return program("settings.c")


def one_line(stderr: str, *words: str) -> None:
    """There is one line, ours, with these words."""
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("memleak: ")
    for word in words:
        assert word in stderr


# ---- settings ------------------------------------------------------------------------------------------

BAD = [
    ("MEMLEAK_MODE", "fast"), ("MEMLEAK_MIN_SAMPLE_INTERVAL", "0"), ("MEMLEAK_MIN_SAMPLE_INTERVAL", "10001"),
    ("MEMLEAK_MIN_SAMPLE_INTERVAL", "-1"), ("MEMLEAK_MIN_SAMPLE_INTERVAL", "many"), ("MEMLEAK_MIN_SAMPLE_INTERVAL", "300"),
    ("MEMLEAK_MAX_SAMPLE_INTERVAL", "1e3"), ("MEMLEAK_MAX_SAMPLE_INTERVAL", "15"), ("MEMLEAK_MAX_SAMPLE_INTERVAL", "99999999999999999999999"),
    ("MEMLEAK_SAMPLE_BYTES", "4095"), ("MEMLEAK_SAMPLE_BYTES", "x"), ("MEMLEAK_SAMPLE_BYTES", "9999999999G"),
    ("MEMLEAK_ROOM", "1"), ("MEMLEAK_ROOM", "64T"), ("MEMLEAK_SEED", "abc"), ("MEMLEAK_SEED", "1K"), ("MEMLEAK_THREAD", "no"),
    ("MEMLEAK_PYTHON", "off"), ("MEMLEAK_NATIVE", "no"), ("MEMLEAK_FOLLOW", "yes"), ("MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL", "0"),
    ("MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL", "5000"), ("MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL", "255"), ("MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL", "1K"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_setting_gives_one_line_and_the_default(tracer, settings, name, value):
    """It names the variable; everything else goes on as by default."""
    done = tracer.run(settings, mode="normal", env={name: value})
    assert done.returncode == 0
    one_line(done.stderr, name)
    header = tracer.only(settings).header
    assert header.effective[:2] == (16, 256)
    assert header.effective_sample_bytes == 4 << 20
    assert header.file_bytes == 32 << 20


def test_settings_are_read_as_the_package_reads_them(tracer, settings):
    """Intervals and sizes, however they are written."""
    names = {"MEMLEAK_MIN_SAMPLE_INTERVAL": INTERVALS, "MEMLEAK_SAMPLE_BYTES": SIZES}
    for name, cases in names.items():
        for text, value in cases.items():
            greatest = {"MEMLEAK_MAX_SAMPLE_INTERVAL": "10000"}
            done = tracer.run(settings, mode="normal", env={**greatest, name: text})
            header = tracer.only(settings).header
            if value is None:
                one_line(done.stderr, name)
            else:
                assert done.stderr == "", text
            got = header.effective[0] if cases is INTERVALS else header.effective_sample_bytes
            assert got == ((16 if cases is INTERVALS else 4 << 20) if value is None else value), text
            tracer.forget()


def test_budgets_are_read_as_the_package_reads_them(tracer, settings):
    """However they are written; a bad one is told of, and the default."""
    for text, value in SHARES.items():
        done = tracer.run(settings, mode="normal", env={"MEMLEAK_BUDGET": text})
        if value is None:
            one_line(done.stderr, "MEMLEAK_BUDGET")
        else:
            assert done.stderr == "", text
        assert tracer.only(settings).header.budget_ppm == (10_000 if value is None else round(1e6 * value)), text
        tracer.forget()


@pytest.mark.parametrize("name", ["MEMLEAK_MODE", "MEMLEAK_MIN_SAMPLE_INTERVAL", "MEMLEAK_THREAD"])
def test_bad_setting_is_told_once_for_all_that_is_executed(tracer, name):
    """A shell that starts many programs has one line, not one for each."""
    done = tracer.run("sh", "-c", "/bin/true; (/bin/true; exec /bin/true); exec /bin/true", mode="normal", env={name: "bad"})
    assert done.returncode == 0
    one_line(done.stderr, name)
    assert len(tracer.recordings()) >= 3


def test_each_bad_setting_has_its_line(tracer, settings):
    """Four wrong, four lines, and still the program's own output."""
    bad = {"MEMLEAK_MODE": "x", "MEMLEAK_MIN_SAMPLE_INTERVAL": "x", "MEMLEAK_SAMPLE_BYTES": "x", "MEMLEAK_SEED": "x"}
    done = tracer.run(settings, env=bad)
    assert sorted(line.split()[1] for line in done.stderr.splitlines()) == sorted(bad)
    assert done.returncode == 0


def test_not_both_sides_are_left_out(tracer, settings):
    """Something is recorded all the same, and one line says why, once for all that is executed."""
    neither = {"MEMLEAK_NATIVE": "0", "MEMLEAK_PYTHON": "0"}
    done = tracer.run("sh", "-c", f"{settings} > /dev/null; exec {settings}", env=neither)
    assert done.returncode == 0
    one_line(done.stderr, "MEMLEAK_NATIVE", "MEMLEAK_PYTHON")
    assert [found.header.counts_native for found in tracer.recordings()] == [True, True, True]


def test_python_alone_in_a_program_without_it(tracer, settings):
    """It runs as ever, and nothing is recorded."""
    done = tracer.run(settings, env={"MEMLEAK_NATIVE": "0"})
    assert (done.returncode, done.stderr) == (0, "")
    found = tracer.only(settings)
    assert not found.header.counts_native and found.header.counters["samples"] == 0 and found.samples_lost == {}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"MEMLEAK_MIN_SAMPLE_INTERVAL": "1", "MEMLEAK_MAX_SAMPLE_INTERVAL": "1"}, (1, 1, 4 << 20)),
        ({"MEMLEAK_MIN_SAMPLE_INTERVAL": "10000", "MEMLEAK_MAX_SAMPLE_INTERVAL": "10000"}, (10000, 10000, 4 << 20)),
        ({"MEMLEAK_MODE": "full"}, (1, 1, 4 << 20)),
        ({"MEMLEAK_MODE": "off"}, (10000, 10000, 4 << 20)),
        ({"MEMLEAK_SAMPLE_BYTES": "0"}, (16, 256, 0)),
        ({"MEMLEAK_SAMPLE_BYTES": "1M", "MEMLEAK_MAX_SAMPLE_INTERVAL": ""}, (16, 256, 1 << 20)),
    ],
)
def test_good_settings_are_used(tracer, settings, environment, expected):
    """Limits included, sizes with K, M or G; an empty one counts as unset."""
    done = tracer.run(settings, mode="normal", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    header = tracer.only(settings).header
    assert (*header.effective[:2], header.effective_sample_bytes) == expected


@pytest.mark.parametrize("switch", [{"MEMLEAK": None}, {"MEMLEAK": "0"}, {"MEMLEAK": "yes"}, {"MEMLEAK_DISABLE": "1"}])
def test_off_unless_switched_on(tracer, settings, switch):
    """Preloaded but not asked for: nothing is said, opened or left behind."""
    done = tracer.run(settings, env=switch)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tracer.directory.iterdir()) == []


@pytest.mark.parametrize(("follow", "seen"), [("1", "1"), ("0", "0"), (None, "0")])
def test_environment_of_the_program_is_its_own(tracer, settings, follow, seen):
    """No variable is added, removed or moved; MEMLEAK alone says whether exec'd programs are traced."""
    plain = run(settings).stdout.replace("MEMLEAK is unset\n", "")
    done = tracer.run(settings, env={"MEMLEAK_FOLLOW": follow})
    assert done.stdout == f"{plain}MEMLEAK is {seen}\n"


# ---- places ----------------------------------------------------------------------------------------------


def bad_place(kind: str, directory: Path, tmp_path: Path) -> tuple[str, str]:
    """Make a place that will not do; return it and what the line must say."""
    if kind == "mode 0755":
        directory.chmod(0o755)
        return str(directory), "open to others"
    if kind == "symbolic link":
        (directory / "link").symlink_to(directory)
        return str(directory / "link"), "cannot be made or opened"
    if kind == "file":
        (directory / "file").write_text("mine")
        return str(directory / "file"), "cannot be made or opened"
    if kind == "missing parent":
        return str(directory / "a/b/c"), "cannot be made or opened"
    if kind == "pipe":
        os.mkfifo(directory / "pipe")
        return str(directory / "pipe"), "cannot be made or opened"
    if kind == "link to nothing":
        (directory / "link").symlink_to(directory / "nothing")
        return str(directory / "link"), "cannot be made or opened"
    if kind == "relative":
        return "some/where", "not an absolute path"
    os.chown(directory, NOBODY, NOBODY)
    return str(directory), "another user"


KINDS = ["mode 0755", "symbolic link", "link to nothing", "pipe", "file", "missing parent", "relative"]


@pytest.mark.parametrize("kind", [*KINDS, pytest.param("other owner", marks=as_root)])
def test_place_that_will_not_do(tracer, settings, tmp_path, kind):
    """One line with the reason; nothing is written there, and the usual place takes the recording."""
    place, reason = bad_place(kind, tracer.directory, tmp_path)
    before = sorted(tracer.directory.iterdir())
    usual = Path(tempfile.mkdtemp(prefix="memleak-test-", dir="/dev/shm"))
    plain = run(settings, env={**os.environ, "XDG_RUNTIME_DIR": str(usual)})
    done = tracer.run(settings, env={"MEMLEAK_DIR": place, "XDG_RUNTIME_DIR": str(usual)})
    recorded = list((usual / "memleak").glob("*.mlrec"))
    shutil.rmtree(usual)
    assert done.returncode == 0
    assert done.stdout.replace("MEMLEAK is 1\n", "") == plain.stdout.replace("MEMLEAK is unset\n", "")
    one_line(done.stderr, "MEMLEAK_DIR", reason, "recording in the usual place")
    assert len(recorded) == 1
    assert sorted(tracer.directory.iterdir()) == before
    assert list(tmp_path.rglob("*.mlrec")) == []


@pytest.mark.parametrize("umask", [0, 0o077])
def test_directory_is_made_and_files_are_private(tracer, settings, umask):
    """0700 and 0600 under any umask; the name is PID-START-RANDOM."""
    place = tracer.directory / "new"
    done = tracer.run(settings, env={"MEMLEAK_DIR": str(place)}, preexec_fn=lambda: os.umask(umask))
    assert done.stderr == ""
    assert place.stat().st_mode & 0o777 == 0o700
    (path,) = place.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    header = recording.load_header(path)
    assert path.name == f"{header.pid}-{header.start_ticks}-{header.recording_id:016x}.mlrec"


def test_runtime_directory_and_what_stands_in_for_it(tracer, settings):
    """XDG_RUNTIME_DIR/memleak when that is set and good, else /dev/shm/memleak-UID; HOME is not needed."""
    there = {"MEMLEAK_DIR": None, "XDG_RUNTIME_DIR": str(tracer.directory), "HOME": None}
    assert tracer.run(settings, env=there).stderr == ""
    assert len(list((tracer.directory / "memleak").iterdir())) == 1
    fallback = Path(f"/dev/shm/memleak-{os.getuid()}")
    existed = fallback.exists()
    for runtime in (None, "", "relative", "/nonexistent"):
        before = set(fallback.glob("*.mlrec"))
        done = tracer.run(settings, env={**there, "XDG_RUNTIME_DIR": runtime})
        assert (done.returncode, done.stderr) == (0, "")
        # Others may be recording there too: ours is the one of this program, and only that is removed.
        new = [
            path for path in set(fallback.glob("*.mlrec")) - before if recording.load_header(path).command == "settings"
        ]
        assert new
        for path in new:
            path.unlink()
    if not existed:
        shutil.rmtree(fallback, ignore_errors=True)


NAMELESS = 1_200_000 + os.getpid() % 100_000  # a uid that no passwd file knows, of this run alone


def as_nameless() -> dict:
    """Return the options that run a program as that user, who has no home either."""
    return {"user": NAMELESS, "group": NAMELESS, "extra_groups": [], "cwd": "/"}


@pytest.fixture
def readable(settings, core_path) -> Iterator[Path]:
    """A directory with the core, the program and the package for every user to read; `place` in it is that user's."""
    base = Path(tempfile.mkdtemp(prefix="memleak-test-", dir="/dev/shm"))
    for name, source in (("core.so", core_path), ("settings", settings)):
        shutil.copy(source, base / name)
        (base / name).chmod(0o755)
    package = Path(memleak.__file__).parent
    for tree in (package, *(Path(importlib.import_module(name).__file__).parent for name in NEEDED)):
        shutil.copytree(tree, base / "lib" / tree.name, ignore=shutil.ignore_patterns("__pycache__"))
    assert Path(core_path).is_relative_to(package)
    (base / "place").mkdir(mode=0o700)
    os.chown(base / "place", NAMELESS, NAMELESS)
    run("chmod", "-R", "a+rX", base / "lib")
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


def launcher(base: Path) -> list[str]:
    """Return the beginning of `memleak run …` for that user."""
    for python in (sys.executable, "/usr/bin/python3"):
        variables = {"PATH": os.defpath, "PYTHONPATH": str(base / "lib")}
        if run(python, "-m", "memleak", "--help", env=variables, **as_nameless()).returncode == 0:
            return [python, "-m", "memleak", "run"]
    pytest.skip("needs a tree that other users can read")


@as_root
@pytest.mark.parametrize("how", ["LD_PRELOAD", "memleak run"])
def test_user_without_a_name(tracer, readable, how):
    """A uid that no passwd file knows, HOME unset: recorded in its own directory, or nowhere with one line."""
    command = [readable / "settings"]
    variables = {"LD_PRELOAD": str(readable / "core.so")}
    if how == "memleak run":
        command = [*launcher(readable), "--quiet", *command]
        variables = {"LD_PRELOAD": None, "MEMLEAK": None, "PYTHONPATH": str(readable / "lib")}
    variables |= {"MEMLEAK_DIR": str(readable / "place"), "HOME": None, "XDG_RUNTIME_DIR": None}
    taken = Path(f"/dev/shm/memleak-{NAMELESS}")
    try:
        done = tracer.run(*command, env=variables, **as_nameless())
        assert (done.returncode, done.stderr) == (0, "")
        assert "MEMLEAK is 1\n" in done.stdout and "HOME=" not in done.stdout
        (path,) = (readable / "place").iterdir()
        assert path.stat().st_uid == NAMELESS == recording.load_header(path).uid
        # Where every user has a place by default.
        variables["MEMLEAK_DIR"] = None
        done = tracer.run(*command, env=variables, **as_nameless())
        assert (done.returncode, done.stderr) == (0, "")
        (path,) = taken.iterdir()
        assert taken.stat().st_uid == NAMELESS == recording.load_header(path).uid
        shutil.rmtree(taken)
        taken.mkdir(mode=0o755)  # root's: that user can neither use nor replace it
        done = tracer.run(*command, env=variables, **as_nameless())
        assert done.returncode == 0
        one_line(done.stderr, "private memory", "belongs to another user", "set MEMLEAK_DIR to a 0700 directory")
        assert list(taken.iterdir()) == []
    finally:
        shutil.rmtree(taken, ignore_errors=True)


@as_root
def test_summary_for_a_user_without_a_name(tracer, readable):
    """Names of functions and the closing lines need neither a name nor a home."""
    variables = {"LD_PRELOAD": None, "MEMLEAK": None, "PYTHONPATH": str(readable / "lib"), "HOME": None}
    variables |= {"MEMLEAK_DIR": str(readable / "place")}
    done = tracer.run(*launcher(readable), readable / "settings", env=variables, **as_nameless())
    (path,) = (readable / "place").iterdir()
    assert done.returncode == 0
    assert f"\nmemleak: settings (pid {recording.load_header(path).pid}) held at its end" in done.stderr
    assert "    main at " in done.stderr
    assert done.stderr.endswith(f"\nrecording: {path}\n")


@as_root
def test_set_user_id_program_is_not_traced(tracer, program, core_path):
    """The loader drops a preload with a path; even from a trusted directory the core stays off."""
    binary = Path(program("settings.c", name="settings_setuid"))
    private = Path(tempfile.mkdtemp(prefix="memleak-test-", dir="/dev/shm"))
    try:
        shutil.copy(binary, private / "settings_setuid")
        private.chmod(0o755)
        os.chown(private / "settings_setuid", NOBODY, NOBODY)
        (private / "settings_setuid").chmod(0o4755)
        plain = run(private / "settings_setuid")
        done = tracer.run(private / "settings_setuid")
        assert done.returncode == plain.returncode == 0
        assert "MEMLEAK" not in done.stderr
        assert list(tracer.directory.iterdir()) == []
    finally:
        shutil.rmtree(private)


# ---- room --------------------------------------------------------------------------------------------------


def fill_up(path: Path, left: int) -> None:
    """Write a file until the file system is full, then give back *left* bytes."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    written = 0
    try:
        while True:
            written += os.write(fd, bytes(4096))
    except OSError:
        os.ftruncate(fd, written - left)
    finally:
        os.close(fd)


@as_root
@pytest.mark.parametrize(("size", "left"), [("64k", 0), ("1m", 0), ("8m", 0), ("64m", 100)])
def test_full_file_system(tracer, settings, size, left):
    """Filled up but for `left` KiB: no SIGBUS, one line, and not a byte of it taken."""
    with private_tmpfs(size) as place:
        if place is None:
            pytest.skip("needs root that may mount")
        fill_up(place / "filler", left * 1024)
        done = tracer.run(settings, env={"MEMLEAK_DIR": str(place)})
        assert done.returncode == 0
        one_line(done.stderr, "private memory", "no room")
        assert [path.name for path in place.iterdir()] == ["filler"]


@as_root
def test_nine_processes_share_64_mib(tracer, program):
    """All run, all recorded, together within an eighth of the file system, and every recording reads."""
    binary = program("loader.c")
    with private_tmpfs("64m") as place, ExitStack() as stack:
        if place is None:
            pytest.skip("needs root that may mount")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started = [
            stack.enter_context(tracer.start(binary, 200_000, env={"MEMLEAK_DIR": str(place)}, **pipes))
            for _ in range(9)
        ]
        for process in started:
            assert process.stdout.readline() == "ready\n"
        used = sum(path.stat().st_blocks * 512 for path in place.iterdir())
        paths = list(place.glob("*.mlrec"))
        for path in paths:
            found = recording.load(path)
            assert_consistent(found)
            assert found.header.counters["samples"] > 0
            kept = Functions(binary).sums(found, "keep").get("keep", Sum(0, 0))
            dropped = sum(found.samples_lost.values()) + found.header.counters["thinned"]
            assert kept.count + dropped >= 200_000
        outputs = [process.communicate("\n") for process in started]
        assert [(output, process.returncode) for (output, _), process in zip(outputs, started)] == [("done\n", 0)] * 9
        assert used <= (64 << 20) / 8
        assert len(paths) == 9, [errors for _, errors in outputs]
        assert all(errors == "" for _, errors in outputs)


def test_dead_recordings_are_pruned(tracer, settings):
    """Sixteen at most stay beside the living one; other files are not touched."""
    (tracer.directory / "notes.txt").write_text("mine")
    (tracer.directory / "1-2-3.mlrec.bak").write_text("mine")
    for _ in range(24):
        assert outcome(tracer.run(settings, mode="normal"))[::2] == (0, "")
    assert len(tracer.paths()) == 16
    assert (tracer.directory / "notes.txt").read_text() == "mine"
    assert (tracer.directory / "1-2-3.mlrec.bak").read_text() == "mine"


def test_dead_recordings_give_back_what_they_never_used(tracer, settings):
    """Full mode backs 32 MiB for each process: six short ones still all stay, within 64 MiB, and can be read."""
    for _ in range(6):
        assert outcome(tracer.run(settings, mode="full"))[::2] == (0, "")
    paths = tracer.paths()
    assert len(paths) == 6
    assert sum(os.stat(path).st_blocks * 512 for path in paths) <= 64 << 20
    for path in paths:
        found = recording.load(path)
        assert found.incomplete == () and found.header.counters["samples"] > 0
