"""Programs that bring CPython with them: interpreters that begin and end, allocators of the application's own."""

from __future__ import annotations

import math
import os
import shlex

import compatenv
import pytest
from tracing import assert_consistent, run

from memleak import recording
from memleak.records import LiveSums


@pytest.fixture
def embedding(program):
    """Compile embedding.c with a CPython in it: ``embedding(version)`` returns the executable's path."""

    def build(version: str) -> str:
        python = compatenv.interpreter(version)
        if python is None:
            pytest.skip(f"no CPython {version} on this machine")
        config = f"{os.path.realpath(python)}-config"
        if not os.path.exists(config):
            pytest.skip("Python's headers are not installed")
        words = run(config, "--embed", "--includes", "--ldflags").stdout.replace("\n", " ")
        return program("embedding.c", *shlex.split(words), name=f"embedding{version}")

    return build


class Kept:
    """The application's own blocks in the recording of a program that has ended, each told by its size."""

    def __init__(self, found: recording.Recording) -> None:
        """Sort them by size."""
        self.found = found
        self.rows: dict[int, list[recording.RecordedRow]] = {}
        for row in found.rows:
            each = row.live.bytes // row.live.samples if row.live.samples else 0
            if row.mod_name == "glibc_malloc" and each and each % 111_111 == 0:
                self.rows.setdefault(each, []).append(row)

    def count(self, size: int) -> int:
        """Return how many there are of a size."""
        return sum(row.live.samples for row in self.rows.get(size, []))

    def frames(self, size: int) -> set[tuple]:
        """Return the Python frames, innermost first, that blocks of a size were asked for in."""
        return {tuple((one.name, one.file, one.line) for one in row.python_stack) for row in self.rows.get(size, [])}


def called(name: str) -> set[tuple]:
    """Return the frames of a block that the function *name* of a script asked for."""
    return {((name, "<string>", 4), ("<module>", "<string>", 6))}


# ---- what the recording of each case must show --------------------------------------------------------


def check_again(kept: Kept, version: str) -> None:
    """Each life of the interpreter has its frames and small objects; what it cuts from arenas is never counted twice."""
    arena = (256 if version == "3.9" else 1024) << 10
    assert not [row for row in kept.found.rows if row.mod_name == "mmap" and row.alloc_bytes == row.alloc_count * arena]
    early = [row for row in kept.found.rows if any(frame.name == "early" for frame in row.python_stack[:2])]
    assert sum(row.alloc_samples for row in early if row.alloc_samples % 500 == 0) == 1500
    for number, name in enumerate(("first", "second", "third"), 1):
        assert kept.count(111_111 * number) == 1
        assert kept.frames(111_111 * number) == called(name)


def check_released(kept: Kept, version: str) -> None:
    """What is run in the next life has frames, whatever thread of the former one is still there."""
    assert kept.frames(777_777) == called("afterwards")


def check_leaving(kept: Kept, version: str) -> None:
    """A thread without the GIL has its frames until the interpreter is about to end: then they may go at any time."""
    (frames,) = kept.frames(888_888)
    assert [frame[:2] for frame in frames[:6]] == [("deep", "<string>")] * 6
    assert kept.count(999_999) == 1
    assert kept.frames(999_999) == {()}


def check_interpreters(kept: Kept, version: str) -> None:
    """Blocks of sub-interpreters are counted, without Python's lines; those of the main one keep theirs."""
    assert [kept.count(size) for size in (222_222, 333_333, 444_444, 555_555)] == [1, 3, 1, 3]
    assert (kept.frames(222_222), kept.frames(555_555)) == (called("in_main"), called("in_main_again"))
    for size in (333_333, 444_444):
        assert kept.frames(size) == {()}
        assert all(row.stack for row in kept.rows[size])


def check_own_gil(kept: Kept, version: str) -> None:
    """Nothing of interpreters that run at the same time is taken for the main one's."""
    assert (kept.frames(222_222), kept.frames(555_555)) == (called("in_main"), called("in_main_again"))
    if version not in ("3.9", "3.10", "3.11"):
        assert kept.count(666_666) == 2
        assert kept.frames(666_666) == {()}


def check_in_front(kept: Kept, version: str) -> None:
    """Whoever stands in front of our hooks, the lines stay right."""
    for size, name, count in ((111_111, "behind", 1), (222_222, "meanwhile", 2), (333_333, "after", 2)):
        assert kept.count(size) == count
        assert kept.frames(size) == called(name)


CASES = {
    "again": check_again,
    "daemons": None,
    "released": check_released,
    "leaving": check_leaving,
    "interpreters": check_interpreters,
    "own_gil": check_own_gil,
    "in_front": check_in_front,
    "replaced": None,
}


IN_STEP = {"stack_full", "row_full", "live_full"}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_application_does_not_notice(tracer, embedding, version, case):
    """Status and output are the same; the recording was closed as the program ended and says who asked for what."""
    binary = embedding(version)
    assert tracer.same(binary, case).returncode == 3
    found = tracer.only()
    assert found.header.state_name == "exited"
    others = case == "interpreters" or (case == "own_gil" and version not in ("3.9", "3.10", "3.11"))
    words = ": frames read" + (", sub-interpreters: native frames only" if others else "")
    assert found.header.python.endswith(words)
    assert_consistent(found)
    lost = dict(found.samples_lost)
    lost.pop("displaced", None)  # 3.12 and later forget hooks when they are begun again
    if case == "own_gil":  # a table grew under one of two threads in step, and the other was preempted
        lost = {why: number for why, number in lost.items() if number > 2 or why not in IN_STEP}
    assert not lost
    if CASES[case]:
        CASES[case](Kept(found), version)


@pytest.mark.parametrize("version", compatenv.VERSIONS)
@pytest.mark.parametrize("native", ["0", "1"])
def test_hooks_come_beside_those_who_call(tracer, embedding, version, native):
    """Ours are put in front of Python's allocators while threads without the GIL, or with another, call these."""
    assert tracer.same(embedding(version), "put_back", mode="normal", env={"MEMLEAK_NATIVE": native}).returncode == 3
    assert tracer.only().header.python.partition(",")[0].endswith(": frames read")


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_threads_that_ask_without_the_gil(tracer, embedding, version):
    """Python's RAW domain by itself: every block in full mode, the right estimate in normal mode."""
    for mode in ("full", "normal"):
        assert tracer.same(embedding(version), "raw", mode=mode, env={"MEMLEAK_NATIVE": "0"}).returncode == 3
        found = tracer.only()
        raw = [row.live for row in found.rows if row.mod_name == "pymem_raw"]
        live = sum((sums for sums in raw if sums.bytes == 333 * sums.samples), LiveSums())
        if mode == "full":
            assert live.samples == 20_000 and found.samples_lost == {}
        else:
            assert abs(live.est_count - 20_000) < 5.5 * math.sqrt(live.variance_count)
            assert 0 < live.samples < 1000
        assert not [row for row in found.rows if row.mod_name in ("glibc_malloc", "mmap") and row.alloc_samples]
        tracer.forget()


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_interpreter_whose_library_is_closed(tracer, program, version):
    """Nothing of ours calls into what the program has closed."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    where = "import sysconfig as s; print(s.get_config_var('LIBDIR'), s.get_config_var('LDLIBRARY'), sep='/')"
    library = run(python, "-c", where).stdout.strip()
    if ".so" not in library:
        pytest.skip("this CPython has no shared library")
    binary = program("unloading.c", "-ldl")
    done = tracer.same(binary, os.path.realpath(library))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (3, "end")
    found = tracer.only()
    assert found.header.state_name == "exited"
    assert any(frame.name == "keep" for row in found.rows for frame in row.python_stack)
    assert_consistent(found)
