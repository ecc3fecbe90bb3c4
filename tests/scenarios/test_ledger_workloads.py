"""The ledger of programs whose memory is known: the parts add up, and what malloc_trim(0) gives back is what was predicted.

Each program is looked at while it waits, by a walk along its heaps and by its recording alone; then it calls
malloc_trim(0) and says what that gave back; then it is killed, and what is left of it is read.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from memleak import _native, heapwalk, layout, query
from memleak.ledger import Ledger

SOURCES = Path(__file__).resolve().parent / "ledger"
MIB = 1 << 20
TIMEOUT_S = 60
UNEXPLAINED = 0.05
NATIVE = ("threads", "one", "random", "small", "cluster", "leak", "files", "outside")
PYTHON = ("objects", "alive", "arrays")
TRIMMED = {"threads": 100, "one": 40, "random": 40, "small": 40, "cluster": 40}  # MiB that come back at least
VERDICTS = {
    "threads": "retention", "one": "retention", "random": "retention", "small": "retention", "cluster": "retention", "leak": "live",
    "files": "shared", "outside": "outside", "objects": "retention", "alive": "live", "arrays": "live",
}  # fmt: skip
JEMALLOC = Path("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2")


class Seen(NamedTuple):
    """What was said of one program."""

    kept: int  # bytes that it knows of
    resident: int
    trimmed: int  # what malloc_trim(0) gave back
    measured: Ledger
    recorded: Ledger
    dead: Ledger
    words: str  # what `memleak ledger` prints
    pinner: str  # the stack that pins most
    path: Path


class Workload:
    """Runs programs, each once."""

    def __init__(self, programs: Path, recordings: Path) -> None:
        """Compile the native one."""
        self.programs, self.recordings = programs, recordings
        flags = ["-O1", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
        own = [
            "gcc",
            *flags,
            "-shared",
            "-fPIC",
            "-Wl,-soname,libown.so",
            "-o",
            programs / "libown.so",
            SOURCES / "own.c",
        ]
        subprocess.run(own, check=True)
        native = ["gcc", *flags, "-pthread", "-o", programs / "native", SOURCES / "native.c", f"-L{programs}", "-lown"]
        subprocess.run([*native, f"-Wl,-rpath,{programs}"], check=True)
        subprocess.run(["gcc", *flags, "-pthread", "-o", programs / "arenas", SOURCES / "arenas.c"], check=True)
        self.seen: dict[str, Seen] = {}

    def start(self, name: str, *preload: str, **variables: str) -> subprocess.Popen:
        """Start a program with the tracer preloaded, behind other libraries."""
        if name in PYTHON:
            command = [sys.executable, SOURCES / "objects.py", name]
        elif name.startswith("arenas "):
            command = [self.programs / "arenas", *name.split()[1:]]
        else:
            command = [self.programs / "native", name, self.programs / "file"]
        environment = {
            **os.environ, "LD_PRELOAD": " ".join([_native.library_path(), *preload]), "MEMLEAK": "1", "MEMLEAK_SEED": "1",
            "MEMLEAK_DIR": str(self.recordings), **variables,
        }  # fmt: skip
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def see(self, name: str) -> Seen:
        """Return what was said of one."""
        if name not in self.seen:
            self.seen[name] = self._run(name)
        return self.seen[name]

    def _run(self, name: str) -> Seen:
        with self.start(name) as process:
            try:
                kept = int(process.stdout.readline().split()[1])
                path = self._settled(process.pid)
                measured = query.open(process.pid).ledger(pid=process.pid)
                words = subprocess.run(
                    [sys.executable, "-m", "memleak", "ledger", str(process.pid)],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
                live = query.open(process.pid)
                recorded, pinners = live.ledger(pid=0), live.pinners()
                resident = resident_bytes(process.pid)
                process.stdin.write("trim\n")
                process.stdin.flush()
                before, after = map(int, process.stdout.readline().split())
            finally:
                process.kill()
        dead = query.open(path).ledger()
        pinner = json.dumps(pinners[0][0].trace) if pinners else ""
        return Seen(kept, resident, before - after, measured, recorded, dead, words, pinner, path)

    def _settled(self, pid: int) -> Path:
        """Wait for a look that was taken when all was there; return the recording."""
        deadline = time.monotonic() + TIMEOUT_S
        begun = time.time()
        while time.monotonic() < deadline:
            found = query.open(pid)
            (held,) = found.recordings
            last = held.ledger[-1] if held.ledger else None
            asked_cs = min(last.cs, last.heap_cs or last.cs) if last else 0
            if last and held.header.started_at + asked_cs / 100 > begun + 0.1:
                return next(path for path in self.recordings.iterdir() if path.name.startswith(f"{pid}-"))
            time.sleep(0.2)
        raise AssertionError("no look was taken")


def resident_bytes(pid: int) -> int:
    """Return what the kernel says is resident of a process."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


@pytest.fixture(scope="module")
def workloads(tmp_path_factory) -> Iterator[Workload]:
    """Programs, and a directory of their recordings."""
    recordings = Path(tempfile.mkdtemp(prefix="memleak-test-", dir="/dev/shm"))
    try:
        yield Workload(tmp_path_factory.mktemp("ledger"), recordings)
    finally:
        shutil.rmtree(recordings)


@pytest.fixture(params=[*NATIVE, *PYTHON])
def each(request, workloads) -> tuple[str, Seen]:
    """One workload after the other."""
    if request.param == "arrays":
        pytest.importorskip("numpy")
    return request.param, workloads.see(request.param)


def test_parts_add_up(each, record_property):
    """What is resident is what the kernel says, and at most 5 % of it is unexplained."""
    name, seen = each
    found = seen.measured
    assert found.measured and not seen.recorded.measured and not seen.dead.measured
    record_property(
        "unexplained", f"{name}: {found.unexplained_share:.4f}, recorded {seen.recorded.unexplained_share:.4f}"
    )
    for one in (found, seen.recorded):
        assert abs(one.rss_bytes - seen.resident) < seen.resident / 50
        total = sum(part.bytes for part in one.parts)
        assert abs(total - one.rss_bytes) <= one.rss_bytes / 50
    assert found.unexplained_share <= UNEXPLAINED
    if name != "outside":  # whose that is a dead process cannot be asked
        assert seen.recorded.unexplained_share <= UNEXPLAINED
        assert seen.dead.unexplained_share <= UNEXPLAINED


def test_verdict(each):
    """Of the process, of its recording, and of what is left when it was killed."""
    name, seen = each
    assert seen.measured.verdict.kind == VERDICTS[name]
    assert seen.recorded.verdict.kind == VERDICTS[name]
    assert seen.dead.verdict.kind == VERDICTS[name]
    assert "\nverdict: " in seen.words and seen.measured.verdict.words.split()[-1] in seen.words


@pytest.mark.parametrize("name", TRIMMED)
def test_trim_gives_back_what_was_predicted(workloads, name, record_property):
    """Within a fifth, from a walk along the heaps and from samples alone."""
    seen = workloads.see(name)
    measured, recorded = seen.measured, seen.recorded
    record_property(
        "trim",
        f"{name}: {seen.trimmed}, walked {measured.trim_gain}, recorded {recorded.trim_gain} ± {recorded.trim_error}",
    )
    assert seen.trimmed > TRIMMED[name] * MIB
    assert abs(measured.trim_gain - seen.trimmed) < seen.trimmed / 5
    assert abs(recorded.trim_gain - seen.trimmed) < min(seen.trimmed / 5, recorded.trim_error)
    assert any(remedy.startswith("malloc_trim(0) gives back about") for remedy in measured.verdict.remedies)


@pytest.mark.parametrize("name", ["leak", "files", "outside", "objects", "alive", "arrays"])
def test_trim_that_would_not_help(workloads, name):
    """It is not recommended, and gives nothing back."""
    seen = workloads.see(name)
    assert seen.trimmed < MIB and seen.measured.trim_gain < MIB
    assert not any("malloc_trim" in remedy for remedy in seen.measured.verdict.remedies)


def test_live_blocks_are_what_was_kept(workloads):
    """Of blocks of 100 to 1,000 bytes the allocator's overhead is some hundredths."""
    for name in ("leak", "cluster"):
        seen = workloads.see(name)
        part = seen.measured.part("native_live")
        assert seen.kept <= part.bytes < seen.kept * 1.08
        assert abs(part.live - part.bytes) <= 1.6 * part.live_error  # three standard errors


def test_files_and_shared_memory(workloads):
    seen = workloads.see("files")
    assert 64 * MIB <= seen.measured.part("files").bytes < 67 * MIB
    assert abs(seen.measured.part("shared").bytes - 72 * MIB) < MIB
    assert abs(seen.measured.part("mappings").bytes - 20 * MIB) < MIB
    assert abs(seen.measured.untouched_bytes - 20 * MIB) < MIB


def test_arrays_never_touched_cost_nothing(workloads):
    """They are live all the same, and both figures are there."""
    pytest.importorskip("numpy")
    seen = workloads.see("arrays")
    assert seen.measured.untouched_bytes > 190 * MIB
    part = seen.measured.part("native_live")
    assert seen.kept <= part.bytes < seen.kept * 1.1
    assert part.live > part.bytes + 180 * MIB
    assert "live and never touched, so not resident" in seen.words


def test_memory_that_no_hook_sees_is_named(workloads):
    """It is that of the object whose variable leads to it."""
    seen = workloads.see("outside")
    assert abs(seen.measured.part("outside").bytes - 64 * MIB) < MIB
    assert [os.path.basename(holder.path) for holder in seen.measured.holders] == ["libown.so"]
    assert "held by libown.so (64.0 MiB)" in seen.measured.verdict.words
    assert "outside: libown.so 64.0 MiB" in seen.words


def test_python_objects(workloads):
    """Arenas: what of them is in use, and what is idle."""
    alive, idle = workloads.see("alive").measured, workloads.see("objects").measured
    part = alive.part("python_objects")
    assert part.bytes > 40 * MIB and abs(part.live - part.bytes) <= 1.6 * part.live_error + 2 * MIB
    assert idle.part("pymalloc_idle").bytes > 50 * MIB > 10 * idle.part("python_objects").bytes
    assert "Python's allocator keeps" in idle.verdict.words


def test_who_pins_the_heaps(workloads):
    """The stack whose blocks were kept between freed ones."""
    seen = workloads.see("one")
    assert "who pins the heaps" in seen.words
    pins = query.open(seen.path).recordings[0].pins
    assert pins.sparse_regions > 10
    snapshot = query.open(seen.path)
    (row, live, pinned), *_ = snapshot.pinners()
    assert abs(live / seen.kept - 1) < 0.5 and pinned > 3 * live
    assert "fill_and_free" in seen.words.split("who pins the heaps")[1]
    assert row.est_bytes == max(each.est_bytes for each in snapshot.rows())


def test_heaps_that_may_not_be_read(workloads, monkeypatch):
    """Then the parts come from smaps, what the C library said, and samples."""

    def refused(pid):
        raise PermissionError(13, "Permission denied")

    with workloads.start("threads") as process:
        try:
            process.stdout.readline()
            workloads._settled(process.pid)
            monkeypatch.setattr(heapwalk, "Memory", refused)
            found = query.open(process.pid).ledger(pid=process.pid)
        finally:
            process.kill()
    assert found.measured and any("Permission denied" in note for note in found.notes)
    assert found.unexplained_share <= UNEXPLAINED and found.verdict.kind == "retention"
    assert sum(part.bytes for part in found.parts) == pytest.approx(found.rss_bytes, rel=0.01)


def test_another_allocator(workloads):
    """What it holds free it does not say: that is what remains, and the ledger says so."""
    if not JEMALLOC.exists():
        pytest.skip("libjemalloc is not installed")
    with workloads.start("leak", str(JEMALLOC)) as process:
        try:
            kept = int(process.stdout.readline().split()[1])
            workloads._settled(process.pid)
            snapshot = query.open(process.pid)
            measured, recorded = snapshot.ledger(pid=process.pid), snapshot.ledger(pid=0)
        finally:
            process.kill()
    assert snapshot.recordings[0].ledger[-1].heap_state == layout.HEAP_OTHER
    for found in (measured, recorded):
        part = found.part("native_live")
        assert part.how == "estimated" and abs(part.bytes - kept) < 2 * part.error + kept / 10
        assert found.part("allocator_free").how == "remainder" and found.trim_gain is None
        assert any("allocator" in note for note in found.notes)


def test_growth_is_told_of_a_dead_process(workloads):
    """A leak that goes on: the ledger of what is left says which part grew. A look of each ten seconds is kept."""
    with workloads.start("leak") as process:
        try:
            process.stdout.readline()
            path = workloads._settled(process.pid)
            for _ in range(2):
                time.sleep(11)
                process.stdin.write("grow\n")
                process.stdin.flush()
                process.stdout.readline()
            workloads._settled(process.pid)
        finally:
            process.send_signal(signal.SIGKILL)
    found = query.open(path).ledger()
    assert found.part("native_live").growth > 40 * MIB
    assert found.verdict.kind == "live" and found.verdict.words.endswith(": native_live")


def _of_arenas(workloads: Workload, words: str, most: str = "") -> tuple[int, dict[str, Ledger]]:
    """Return what is resident of threads with arenas of their own, or few, and the ledgers: walked, recorded, dead."""
    with workloads.start(f"arenas {words}", **({"MALLOC_ARENA_MAX": most} if most else {})) as process:
        try:
            process.stdout.readline()
            path = workloads._settled(process.pid)
            snapshot = query.open(process.pid)
            said = {"walked": snapshot.ledger(pid=process.pid), "recorded": snapshot.ledger(pid=0)}
            resident = resident_bytes(process.pid)
        finally:
            process.kill()
    return resident, {**said, "dead": query.open(path).ledger()}


@pytest.mark.parametrize(("at_once", "rounds"), [(1, 4), (2, 4), (4, 4), (4, 12)])
def test_few_arenas_keep_what_was_predicted_less(workloads, at_once, rounds, record_property):
    """Sixteen threads, *at_once* of which need much at one time: what MALLOC_ARENA_MAX=2 saves is what is said.

    By a walk and from the recording, of the process and of what is left of it. It is within a fifth of the value that is
    said; with four it is chance who has an arena in common with whom, and one run saves a third more than another.
    """
    resident, said = _of_arenas(workloads, f"16 {at_once} {rounds}")
    fewer, bounded = _of_arenas(workloads, f"16 {at_once} {rounds}", "2")
    saved = resident - fewer
    figures = {name: (found.cap_gain, found.cap_least, found.cap_most) for name, found in said.items()}
    record_property("cap", f"{at_once}, {rounds} rounds: {saved} of {resident}, {figures}")
    assert said["walked"].arenas >= 8
    for found in said.values():
        assert found.verdict.kind == "retention"
        assert abs(found.cap_gain - saved) < saved / (5 if at_once < 4 else 3)
        assert 0.9 * found.cap_least < saved < 1.1 * found.cap_most
        assert any(remedy.startswith("MALLOC_ARENA_MAX=2 would have kept about ") for remedy in found.verdict.remedies)
    assert bounded["walked"].arenas == 2
    assert not _names_the_bound(bounded["walked"])


def test_few_arenas_are_no_remedy_where_all_threads_need_much_at_once(workloads, record_property):
    """They would keep as much: it is not recommended, and does not help."""
    resident, said = _of_arenas(workloads, "16 16 3")
    fewer, _ = _of_arenas(workloads, "16 16 3", "2")
    record_property("cap", f"all at once: {resident - fewer} of {resident}")
    assert said["walked"].arenas >= 8 and resident - fewer < resident / 5
    assert not any(_names_the_bound(found) for found in said.values())


def _names_the_bound(found: Ledger) -> bool:
    return found.cap_gain is not None or any("MALLOC_ARENA_MAX" in remedy for remedy in found.verdict.remedies)
