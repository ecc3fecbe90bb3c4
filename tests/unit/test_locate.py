"""Finding recordings: of running processes, in directories, and saying clearly why there is none."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recordingwriter import RecordingWriter
from tracedprocess import boot_id, start_ticks, traced_process

from memleak import locate, recording
from memleak.errors import TargetError


def ended_pid():
    """A pid that belongs to nobody now."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_directories():
    """In the order in which the core tries; the same one once."""
    uid = os.getuid()
    shm = Path(f"/dev/shm/memleak-{uid}")
    assert locate.directories({}) == [shm]
    environ = {"MEMLEAK_DIR": "/a", "XDG_RUNTIME_DIR": "/run/user/1"}
    assert locate.directories(environ) == [Path("/a"), Path("/run/user/1/memleak"), shm]
    assert locate.directories({"MEMLEAK_DIR": str(shm)}) == [shm]
    assert locate.places({**environ, "MEMLEAK_KEEP_DIR": "/kept"}) == [*locate.directories(environ), Path("/kept")]
    assert locate.places({"MEMLEAK_KEEP_DIR": str(shm)}) == locate.places({}) == [shm]


def test_running_process(tmp_path):
    """A pid, as number or digits, leads to the file the process has mapped."""
    with traced_process(tmp_path) as (process, path):
        assert locate.find(process.pid) == locate.find(str(process.pid)) == [path]
        (found,) = locate.list_recordings([tmp_path])
        assert (found.path, found.pid, found.alive) == (path, process.pid, True)
        assert found.start_ticks == start_ticks(process.pid)
    (found,) = locate.list_recordings([tmp_path])
    assert found.alive is False


def test_mapping_under_any_name(tmp_path):
    """`-o FILE` gives a recording any name: the mapping's first bytes say what it is."""
    with traced_process(tmp_path, name="out.bin") as (process, path):
        assert locate.find(process.pid) == [path]


def test_deleted_recording(tmp_path):
    """A file without a name is reached through the mapping, where that is permitted."""
    with traced_process(tmp_path, how="delete") as (process, _):
        try:
            (path,) = locate.find(process.pid)
        except TargetError as error:
            assert "run as its user, or as root" in str(error)  # map_files needs a capability
        else:
            assert path.parent == Path(f"/proc/{process.pid}/map_files")


def test_forked_child_without_its_own_recording(tmp_path):
    """The parent's mapping is not the child's recording."""
    with traced_process(tmp_path, how="fork") as (process, _):
        with pytest.raises(TargetError, match=f"was forked from process {process.pid} and has not yet opened"):
            locate.find(process.traced_pid)


def test_untraced_process():
    """The remedy is in the message."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(TargetError, match="has no recording: memleak is not in it; start it with `memleak run`"):
            locate.find(process.pid)
    finally:
        process.stdin.close()
        process.wait()


def test_core_without_a_recording(core_path):
    """It says that memleak is there: starting the program with it again would not help."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={**os.environ, "LD_PRELOAD": core_path})
    try:
        deadline = time.monotonic() + 30
        while core_path not in Path(f"/proc/{process.pid}/maps").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(TargetError, match=f"though memleak is in it: .* memleak doctor {process.pid}"):
            locate.find(process.pid)
    finally:
        process.communicate()


def test_dead_process(tmp_path):
    """A pid without a process: where its recording lies is said; with dead=True it is used."""
    pid = ended_pid()
    environ = {"MEMLEAK_DIR": str(tmp_path)}
    with pytest.raises(TargetError, match=f"no process {pid}, and no recording .*{tmp_path}"):
        locate.find(pid, environ=environ)
    path = tmp_path / f"{pid}-5-aa.mlrec"
    path.write_bytes(RecordingWriter(pid=pid, start_ticks=5, boot_id=boot_id()).bytes())
    with pytest.raises(TargetError, match=str(path)):
        locate.find(pid, environ=environ)
    assert locate.find(pid, environ=environ, dead=True) == [path]


def test_paths(tmp_path):
    """A file is itself; a directory is its recordings, hidden and foreign files apart."""
    raw = RecordingWriter().bytes()
    for name in ("b.mlrec", "a.mlrec", "by-content"):
        (tmp_path / name).write_bytes(raw)
    (tmp_path / ".half.mlrec").write_bytes(raw)
    (tmp_path / "notes").write_text("x")
    os.mkfifo(tmp_path / "fifo.mlrec")
    assert locate.find(tmp_path / "notes") == [tmp_path / "notes"]
    assert locate.find(str(tmp_path)) == [tmp_path / name for name in ("a.mlrec", "b.mlrec", "by-content")]


@pytest.mark.parametrize("target", [True, "", "no/such/file", "a\0b", 4_194_305_000, "00000000000000000099999999999"])
def test_bad_targets(target, monkeypatch, tmp_path):
    """One line that names the target."""
    monkeypatch.setenv("MEMLEAK_DIR", str(tmp_path))
    if target == "":
        target = str(tmp_path)  # an empty directory
    with pytest.raises(TargetError) as caught:
        locate.find(target)
    assert "\n" not in str(caught.value)


def test_copy_is_not_alive(tmp_path):
    """A copy has the pid of a running process, which does not have it mapped."""
    with traced_process(tmp_path) as (_, path):
        copy = tmp_path / "copy.mlrec"
        shutil.copy(path, copy)
        assert locate.is_alive(recording.load_header(path), path) is True
        assert locate.is_alive(recording.load_header(copy), copy) is False
        assert [found.path for found in locate.list_recordings([tmp_path])] == [path]
        path.unlink()
        assert [(found.path, found.alive) for found in locate.list_recordings([tmp_path])] == [(copy, False)]


def test_reused_pid_is_not_alive(tmp_path):
    """The start time tells two processes of one pid apart; so does the boot."""
    mine = os.getpid()
    for name, header in {
        "ticks": {"start_ticks": 1, "boot_id": boot_id(), "recording_id": 1},
        "boot": {"start_ticks": start_ticks(mine), "boot_id": b"\x01" * 16, "recording_id": 2},
        "closed": {"start_ticks": start_ticks(mine), "boot_id": boot_id(), "state": 2, "recording_id": 3},
    }.items():
        (tmp_path / f"{name}.mlrec").write_bytes(RecordingWriter(pid=mine, **header).bytes())
    assert [found.alive for found in locate.list_recordings([tmp_path])] == [False] * 3


def test_other_pid_namespace(tmp_path):
    """A number of another namespace says nothing here; only who sees every process knows that nobody is behind it."""
    path = tmp_path / "x.mlrec"
    mine = {"pid": os.getpid(), "start_ticks": start_ticks(os.getpid()), "boot_id": boot_id()}
    path.write_bytes(RecordingWriter(**mine, pid_namespace=1).bytes())
    (found,) = locate.list_recordings([tmp_path])
    sees_all = os.geteuid() == 0 and os.stat("/proc/self/ns/pid").st_ino == 0xEFFFFFFC
    assert (found.pid, found.alive, found.pid_here) == (os.getpid(), False if sees_all else None, None)
    assert locate.is_alive(found.header, path) is found.alive


def test_number_of_a_running_process(tmp_path):
    """In our own namespace it is the one its recording states."""
    with traced_process(tmp_path) as (process, _):
        assert [found.pid_here for found in locate.list_recordings([tmp_path])] == [process.pid]


def test_root_of(tmp_path):
    """None unless the process sees other files than we do."""
    assert [locate.root_of(target) for target in (os.getpid(), str(os.getpid()), tmp_path, "4194305000")] == [None] * 4


def test_list_passes_over_what_it_cannot_read(tmp_path):
    """Missing directories, links and broken files are left out."""
    (tmp_path / "bad.mlrec").write_bytes(b"x")
    (tmp_path / "link.mlrec").symlink_to("good.mlrec")
    (tmp_path / "good.mlrec").write_bytes(RecordingWriter().bytes())
    found = locate.list_recordings([tmp_path, tmp_path / "missing"])
    assert [one.path.name for one in found] == ["good.mlrec"]


def test_start_ticks_with_an_odd_name(tmp_path):
    """A command such as `a) b` does not shift the fields; a zombie counts as ended."""
    program = tmp_path / "a) R (b"
    program.symlink_to(shutil.which("sleep"))
    process = subprocess.Popen([program, "60"])
    try:
        assert locate.start_ticks(process.pid) == start_ticks(process.pid)
    finally:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert locate.start_ticks(process.pid) is None
        process.wait()
