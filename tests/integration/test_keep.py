"""MEMLEAK_KEEP_DIR: whole copies of the recording on a volume, while the recording itself stays in memory."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tracing import assert_consistent, private_tmpfs, run

from memleak import recording


@pytest.fixture
def volume():
    """A directory that holds nothing."""
    place = Path(tempfile.mkdtemp(prefix="memleak-test-"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


def copies(directory: Path) -> list[Path]:
    """Return what is there; everything is a finished recording of ours."""
    found = sorted(directory.iterdir())
    assert all(path.suffix == ".mlrec" and path.name[0] != "." for path in found)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in found)
    return found


def test_the_last_copy_is_the_recording(tracer, program, volume):
    """Under its name, in a directory that is made 0700, and not a byte on standard error."""
    binary = program("callers.c", "-fno-builtin")
    plain = run(binary)
    done = tracer.run(binary, env={"MEMLEAK_KEEP_DIR": str(volume / "kept")})
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    (copy,) = copies(volume / "kept")
    (path,) = tracer.paths()
    assert (volume / "kept").stat().st_mode & 0o777 == 0o700
    assert copy.name == path.name
    its, original = recording.load(copy), recording.load(path)
    assert its.header.state_name == original.header.state_name == "exited"
    assert its.incomplete == () and its.torn == 0 and len(its.live) > 0
    assert [row.alloc_bytes for row in its.rows] == [row.alloc_bytes for row in original.rows]
    assert original.header.counters["copies_failed"] == 0


def test_a_killed_program_has_left_a_copy(tracer, program, volume):
    """Made by our thread while four threads allocate."""
    started = tracer.start(program("load.c"), 4, env={"MEMLEAK_KEEP_DIR": str(volume)})
    try:
        deadline = time.monotonic() + 30
        while not list(volume.glob("[0-9]*.mlrec")):
            assert time.monotonic() < deadline and started.poll() is None
            time.sleep(0.05)
    finally:
        started.kill()
        started.wait()
    (copy,) = volume.glob("[0-9]*.mlrec")
    found = recording.load(copy)
    assert_consistent(found)
    assert found.header.state_name == "recording" and found.incomplete == ()
    assert len(found.live) > 0


def test_beside_copies_in_a_directory_off_tmpfs(tracer, program, volume):
    """Both get one; the same directory gets one."""
    kept = volume / "kept"
    if run("stat", "-f", "-c", "%T", volume).stdout.strip() == "tmpfs":
        pytest.skip("no file system but tmpfs here")
    tracer.directory = tracer.directory / "memleak"
    variables = {"MEMLEAK_DIR": str(volume / "asked"), "XDG_RUNTIME_DIR": str(tracer.directory.parent)}
    binary = program("callers.c", "-fno-builtin")
    tracer.run(binary, env={**variables, "MEMLEAK_KEEP_DIR": str(kept)})
    assert copies(volume / "asked")[0].name == copies(kept)[0].name == tracer.paths()[0].name
    shutil.rmtree(kept)
    done = tracer.run(binary, env={**variables, "MEMLEAK_KEEP_DIR": str(volume / "asked")})
    assert done.stderr == ""
    assert len(copies(volume / "asked")) == len(tracer.paths()) == 2


def test_where_the_recording_is(tracer, program, tmp_path):
    """A copy would take its place: none is made, by whatever path the directory is called."""
    tracer.directory.chmod(0o700)
    path = f"{tracer.directory}/../{tracer.directory.name}"
    for name in (str(tracer.directory), path):
        done = tracer.run(program("callers.c", "-fno-builtin"), env={"MEMLEAK_KEEP_DIR": name})
        assert done.stderr == ""
    first, second = (recording.load(path) for path in tracer.paths())
    assert first.header.file_bytes == tracer.paths()[0].stat().st_size  # the file that was mapped, not a copy
    assert second.header.counters["copies_failed"] == 0 and len(second.live) > 0


def make_open(volume: Path) -> str:
    volume.chmod(0o777)
    return str(volume)


def make_file(volume: Path) -> str:
    (volume / "file").touch()
    return str(volume / "file")


BAD = {
    "relative": (lambda volume: "kept", "is not an absolute path, no copies are kept there: kept"),
    "open to others": (make_open, "is open to others (want mode 0700), no copies are kept there: {}"),
    "a file": (make_file, "cannot be made or opened, no copies are kept there: {}"),
    "no parent": (lambda volume: f"{volume}/a/b", "cannot be made or opened, no copies are kept there: {}"),
    "too long": (lambda volume: "/" + "x" * 300, "is too long, not used: {}"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_directory_that_will_not_do(tracer, volume, case):
    """One line for all programs, and the program runs and is recorded as ever."""
    make, words = BAD[case]
    name = make(volume)
    line = f"memleak: MEMLEAK_KEEP_DIR {words.format(name)}\n"
    done = tracer.run("/bin/sh", "-c", "/bin/echo one; /bin/echo two", env={"MEMLEAK_KEEP_DIR": name})
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n")
    assert done.stderr == line
    assert len(tracer.paths()) == 3
    assert not list(volume.rglob("*.mlrec"))


def test_a_bad_directory_and_tracing_from_inside(volume, runtime_directory):
    """One line there, too, and tracing is on; a good one gets the copy that stop() writes."""
    code = "import memleak; memleak.start(1, 1, strict=True); assert memleak.is_running(); memleak.stop()"
    done = run(sys.executable, "-c", code, env={**os.environ, "MEMLEAK_KEEP_DIR": make_file(volume)})
    words = "memleak: MEMLEAK_KEEP_DIR cannot be made or opened, no copies are kept there"
    assert (done.returncode, done.stderr) == (0, f"{words}\n")
    done = run(sys.executable, "-c", code, env={**os.environ, "MEMLEAK_KEEP_DIR": str(volume / "kept")})
    assert (done.returncode, done.stderr) == (0, "")
    (copy,) = copies(volume / "kept")
    assert recording.load_header(copy).state_name == "stopped"


@pytest.mark.parametrize(("size", "taken", "fits"), [("16m", 0, True), ("2m", 0, False), ("16m", (16 << 20) - 4096, False)])
def test_a_volume_with_little_room(tracer, program, size, taken, fits):
    """An eighth of it is ours, as far as it is free. Else nothing is left there and it is counted; the program does not notice."""
    binary = program("callers.c", "-fno-builtin")
    plain = run(binary)
    with private_tmpfs(size) as small:
        if small is None:
            pytest.skip("needs root that may mount")
        (small / "others").write_bytes(bytes(taken))
        done = tracer.run(binary, env={"MEMLEAK_KEEP_DIR": str(small)})
        assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)
        assert [path.suffix for path in small.iterdir() if path.name != "others"] == [".mlrec"] * fits
    found = tracer.only(binary)
    assert (found.header.counters["copies_failed"] == 0) == fits
    assert found.header.room_used > (2 << 20) // 8  # or it would fit


def test_a_directory_that_is_gone(tracer, volume):
    """It was there when tracing began: counted, and nothing else."""
    code = "import os, sys; os.rmdir(sys.argv[1]); open(sys.argv[1], 'w').close()"
    kept = volume / "kept"
    done = tracer.run(sys.executable, "-S", "-c", code, kept, env={"MEMLEAK_KEEP_DIR": str(kept)})
    assert (done.returncode, done.stderr) == (0, "")
    assert recording.load_header(tracer.paths()[0]).counters["copies_failed"] >= 1


def test_dead_copies_are_bounded(tracer, program, volume):
    """Sixteen of the dead with the one to come, the newest."""
    dead = run(sys.executable, "-S", "-c", "import os; print(os.getpid())").stdout.strip()
    for number in range(20):
        path = volume / f"{dead}-1-{number:016x}.mlrec"
        path.write_bytes(b"x")
        path.chmod(0o600)
        os.utime(path, (1000 + number, 1000 + number))
    tracer.run(program("callers.c", "-fno-builtin"), env={"MEMLEAK_KEEP_DIR": str(volume)})
    found = copies(volume)
    assert len(found) == 16
    assert {path.name for path in found} > {f"{dead}-1-{number:016x}.mlrec" for number in range(5, 20)}


def test_a_forked_child_keeps_a_copy_of_its_own(tracer, volume):
    """One that ends as a program ends."""
    code = "import os\nif os.fork() == 0:\n    kept = [bytes(1000) for _ in range(5000)]\nelse:\n    os.wait()"
    done = tracer.run(sys.executable, "-S", "-c", code, env={"MEMLEAK_KEEP_DIR": str(volume)})
    assert (done.returncode, done.stderr) == (0, "")
    headers = [recording.load_header(path) for path in copies(volume)]
    assert sorted(bool(header.parent_recording_id) for header in headers) == [False, True]
    assert all(header.limit_seen_cs and header.limit_bytes for header in headers)
