"""Copies of recordings meet what somebody has put in their place: it is neither written through nor replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from recordingwriter import RecordingWriter

from memleak import cli, recording, session
from memleak.errors import TargetError
from memleak.saving import save_all


def found() -> recording.Recording:
    """A recording to save."""
    writer = RecordingWriter()
    writer.live(writer.row(()), size=100, weight=2)
    return recording.parse(writer.bytes())


def plant(kind: str, path: Path, victim: Path) -> None:
    """Put something in the place of a copy."""
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "link to nothing":
        path.symlink_to(path.parent / "nothing")
    elif kind == "link to a device":
        path.symlink_to("/dev/null")
    elif kind == "hard link":
        os.link(victim, path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "file":
        path.write_text("old")


ODD = ["link", "link to nothing", "link to a device", "pipe"]


@pytest.mark.parametrize("kind", [*ODD, "hard link", "file"])
def test_nothing_is_replaced_unasked(tmp_path, kind):
    """Whatever has the name keeps it."""
    path, victim = tmp_path / "place/copy.mlrec", tmp_path / "victim"
    path.parent.mkdir()
    victim.write_text("dear")
    plant(kind, path, victim)
    before = os.lstat(path)
    with pytest.raises(TargetError, match="exists already"):
        save_all([found()], path, force=False)
    assert os.lstat(path)[:3] == before[:3] and victim.read_text() == "dear"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_not_replaced(tmp_path, kind):
    """Not by force either: root would replace /dev/null itself. Nor is it written through."""
    path, victim = tmp_path / "place/copy.mlrec", tmp_path / "victim"
    path.parent.mkdir()
    victim.write_text("dear")
    plant(kind, path, victim)
    before = os.lstat(path)
    with pytest.raises(TargetError, match="not a regular file"):
        save_all([found()], path, force=True)
    assert os.lstat(path)[:3] == before[:3] and victim.read_text() == "dear"
    assert os.listdir(path.parent) == [path.name]


def test_another_name_of_a_file_is_left_alone(tmp_path):
    """By force a name is given to the copy; the file that had it, and has others, stays as it is."""
    path, victim = tmp_path / "copy.mlrec", tmp_path / "victim"
    victim.write_text("dear")
    plant("hard link", path, victim)
    assert save_all([found()], path, force=True) == [path]
    assert victim.read_text() == "dear" and recording.load(path).rows


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "file"])
@pytest.mark.parametrize("force", [True, False])
def test_a_planted_temporary_name_is_not_used(tmp_path, kind, force):
    """It can be foreseen: what stands there is neither written to nor removed."""
    path, victim = tmp_path / "copy.mlrec", tmp_path / "victim"
    victim.write_text("dear")
    temporary = tmp_path / f".copy.mlrec.{os.getpid()}.tmp"
    plant(kind, temporary, victim)
    before = os.lstat(temporary)
    with pytest.raises(TargetError):
        save_all([found()], path, force=force)
    assert os.lstat(temporary)[:3] == before[:3] and victim.read_text() == "dear"
    assert not path.exists()


@pytest.mark.parametrize("umask", [0, 0o077])
def test_copies_are_private_under_any_umask(tmp_path, umask):
    """0600, and a directory made for them 0700."""
    old = os.umask(umask)
    try:
        (one,) = save_all([found()], tmp_path / "one.mlrec", force=False)
        other = found()
        other.header = other.header._replace(pid=4712)
        several = save_all([found(), other], tmp_path / "several", force=False)
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (one, *several)} == {0o600}
    assert stat.S_IMODE((tmp_path / "several").stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ODD)
def test_run_refuses_before_the_program_starts(tmp_path, capfd, kind):
    """A place that will not do costs no run; the program has not run."""
    path, witness = tmp_path / "copy.mlrec", tmp_path / "witness"
    plant(kind, path, tmp_path / "victim")
    assert cli.main(["run", "-o", str(path), "touch", str(witness)]) == 2
    assert "not a regular file" in capfd.readouterr().err
    assert not witness.exists()


@pytest.mark.parametrize("kind", ODD)
def test_start_refuses_at_once(tmp_path, kind):
    """So does tracing from inside, where the copy is written at the very end."""
    plant(kind, tmp_path / "copy.mlrec", tmp_path / "victim")
    with pytest.raises(OSError, match="not a regular file"):
        session._copy_target(tmp_path / "copy.mlrec")
