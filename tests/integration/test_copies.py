"""MEMLEAK_DIR on a disk: the recording stays in memory, and the disk gets whole copies of it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tracing import Functions, assert_consistent, ledger, run

from memleak import recording


@pytest.fixture
def disk():
    """A 0700 directory that is not on a tmpfs."""
    for base in (None, "/var/tmp", os.getcwd()):
        place = Path(tempfile.mkdtemp(prefix="memleak-test-", dir=base))
        if run("stat", "-f", "-c", "%T", place).stdout.strip() != "tmpfs":
            yield place
            shutil.rmtree(place, ignore_errors=True)
            return
        place.rmdir()
    pytest.skip("no file system but tmpfs here")


@pytest.fixture
def variables(tracer, disk):
    """Copies go to the disk; the recording itself goes where the tracer looks for it."""
    tracer.directory = tracer.directory / "memleak"
    return {"MEMLEAK_DIR": str(disk), "XDG_RUNTIME_DIR": str(tracer.directory.parent)}


def copies(disk: Path) -> list[Path]:
    """Return what is there; everything is a finished recording of ours."""
    found = sorted(disk.iterdir())
    assert all(path.suffix == ".mlrec" and path.name[0] != "." for path in found)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in found)
    return found


def test_the_last_copy_is_the_recording(tracer, program, disk, variables):
    """Under its name, with the same rows, and not a byte on standard error."""
    binary = program("callers.c", "-fno-builtin")
    plain = run(binary)
    done = tracer.run(binary, env=variables)
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    (copy,) = copies(disk)
    (path,) = tracer.paths()
    assert copy.name == path.name
    its, original = recording.load(copy), recording.load(path)
    assert its.header.state_name == original.header.state_name == "exited"
    assert its.incomplete == () and its.torn == 0
    assert [row._replace(live=None) for row in its.rows if row.alloc_samples] == [
        row._replace(live=None) for row in original.rows if row.alloc_samples
    ]
    assert original.header.counters["copies_failed"] == 0


def test_a_killed_program_has_left_a_copy(tracer, program, disk, variables):
    """Made by our thread while four threads allocate: it reads, and each row is consistent."""
    binary = program("load.c")
    started = tracer.start(binary, 4, env=variables)
    try:
        deadline = time.monotonic() + 30
        while not list(disk.glob("[0-9]*.mlrec")):
            assert time.monotonic() < deadline and started.poll() is None
            time.sleep(0.05)
    finally:
        started.kill()
        started.wait()
    (copy,) = disk.glob("[0-9]*.mlrec")
    found = recording.load(copy)
    assert_consistent(found)
    assert found.incomplete == ()
    assert found.header.state_name == "recording"
    assert sum(row.live.samples for row in found.rows) > 0
    names = {Functions(binary).stack(found, row)[0] for row in found.rows if row.stack}
    assert any(not name.startswith("[") for name in names)


def test_a_parent_of_forked_children(tracer, program, disk, variables):
    """Its copy equals its ledger exactly; children without threads that leave by _exit() pass no moment for one."""
    binary = program("forking.c")
    done = tracer.run(binary, 0, 8, env={**variables, "MEMLEAK_ROOM": "6M"})
    assert (done.returncode, done.stderr) == (0, "")
    (parent,) = [recording.load(path) for path in copies(disk)]
    assert Functions(binary).sums(parent, "keep_") == ledger(done.stdout, "parent")
    assert len(tracer.paths()) == 9


def test_a_forked_child_has_a_copy_of_its_own(tracer, disk, variables):
    """One that ends as a program ends."""
    code = "import os\nif os.fork() == 0:\n    kept = [bytes(1000) for _ in range(5000)]\nelse:\n    os.wait()"
    done = tracer.run(sys.executable, "-S", "-c", code, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    headers = [recording.load_header(path) for path in copies(disk)]
    (parent,) = [header for header in headers if not header.parent_recording_id]
    (child,) = [header for header in headers if header.parent_recording_id]
    assert child.parent_recording_id == parent.recording_id
    assert child.counters["samples"] > 1000


def test_a_copy_that_may_not_be_so_large(tracer, program, disk, variables):
    """RLIMIT_FSIZE below it: no SIGXFSZ, nothing left, and counted."""
    binary = program("callers.c", "-fno-builtin")

    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    plain = run(binary, preexec_fn=restrict)
    done = tracer.run(binary, env={**variables, "MEMLEAK_ROOM": "1M"}, preexec_fn=restrict)
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    tiny = tracer.only(binary)
    done = tracer.run(
        binary, env=variables, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600 << 10, 600 << 10))
    )
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert tiny.header.counters["copies_failed"] == 0
    assert len(copies(disk)) <= 2


def test_a_directory_that_is_gone(tracer, disk, variables):
    """It was there when tracing began: counted, and nothing else."""
    code = "import os, sys; os.rmdir(sys.argv[1]); open(sys.argv[1], 'w').close()"
    done = tracer.run(sys.executable, "-S", "-c", code, disk, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = tracer.paths()
    assert recording.load_header(path).counters["copies_failed"] >= 1
    disk.unlink()


def test_tracing_from_inside(tracer, disk, variables):
    """stop() writes the last copy."""
    code = "import memleak; memleak.start(1, 1); kept = [bytes(1000) for _ in range(100)]; memleak.stop()"
    done = run(sys.executable, "-W", "error", "-c", code, env={**os.environ, **variables})
    assert (done.returncode, done.stderr) == (0, "")
    (copy,) = copies(disk)
    assert recording.load_header(copy).state_name == "stopped"


def test_ps_lists_a_recording_once(tracer, program, disk, variables):
    """Not the copy beside it; the copy alone when there is nothing else."""
    tracer.run(program("callers.c", "-fno-builtin"), env=variables)
    (path,) = tracer.paths()

    def listed() -> list[str]:
        words = [sys.executable, "-m", "memleak", "ps", "--dead", "--json"]
        done = run(*words, env={**os.environ, **variables})
        assert done.returncode == 0, done.stderr
        return [one["path"] for one in json.loads(done.stdout) if one["command"].startswith("callers")]

    assert len(listed()) == 1
    path.unlink()
    assert listed() == [str(copies(disk)[0])]


@pytest.mark.parametrize("kind", ["link", "link to a directory", "pipe", "directory"])
def test_what_stands_in_the_way_of_a_copy(tracer, program, disk, variables, tmp_path, kind):
    """Under the unfinished copy's name, which can be foreseen: not written through, not waited for; counted, or replaced."""
    victim = tmp_path / "victim"
    victim.write_text("dear")
    code = (
        "import glob, os, sys\n"
        "(name,) = [os.path.basename(path) for path in glob.glob(sys.argv[1] + '/*.mlrec')]\n"
        "path, kind, victim = os.path.join(sys.argv[2], '.' + name), *sys.argv[3:]\n"
        "os.mkfifo(path) if kind == 'pipe' else os.mkdir(path) if kind == 'directory' else os.symlink(victim, path)\n"
    )
    target = tmp_path if kind == "link to a directory" else victim
    done = tracer.run(sys.executable, "-S", "-c", code, tracer.directory, disk, kind, target, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = tracer.paths()
    assert recording.load_header(path).counters["copies_failed"] == 1
    assert victim.read_text() == "dear" and sorted(tmp_path.iterdir()) == [victim]
    assert not [found for found in disk.iterdir() if found.suffix == ".mlrec" and not found.name.startswith(".")]


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_copies_are_private_under_any_umask(tracer, program, disk, variables, umask):
    """0600, but for what the umask takes away."""
    binary = program("callers.c", "-fno-builtin")
    done = tracer.run(binary, env=variables, preexec_fn=lambda: os.umask(umask))
    assert done.returncode == 0
    (copy,) = disk.iterdir()
    assert copy.stat().st_mode & 0o777 == 0o600 & ~umask
