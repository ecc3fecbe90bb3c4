"""start(recording=…): the copy that is written at the end."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from ownprocess import PRIVATE, python, recordings, said

import memleak
from memleak import recording


@pytest.fixture(autouse=True)
def place(runtime_directory) -> Path:
    """Recordings of these tests stand apart."""
    return runtime_directory


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
        assert memleak.is_running()
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


def test_a_copy_that_fails_is_one_line(place, tmp_path):
    """The program ends as it would; the line says where the recording is."""
    (tmp_path / "there").mkdir()
    code = f"memleak.start(recording={str(tmp_path / 'there/x')!r}); os.rmdir({str(tmp_path / 'there')!r})"
    done = python(code)
    (original,) = place.glob("*.mlrec")
    assert done.returncode == 0
    assert re.fullmatch(rf"memleak: copy of the recording: .*; it stays at {re.escape(str(original))}\n", done.stderr)


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
    assert (done.returncode, done.stdout) == (0, "True None (1, 1, 1, 1, 0)\nTrue\n")
    assert done.stderr.startswith("memleak: recording in private memory") and done.stderr.count("\n") == 1
    assert list(place.iterdir()) == []
    assert sum(1 for sample in recording.load(target).live if sample[1] == 1000) >= 700
