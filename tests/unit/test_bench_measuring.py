"""How ./bench measures a process, and what it says of one that fails, hangs or prints something else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest
from benching import measuring
from benching.measuring import Compared, Sample

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def python(text: str, directory, limit_s: float = 30.0) -> Sample:
    return measuring.run_process([sys.executable, "-S", "-c", text], dict(os.environ), limit_s, directory)


def sample(cpu_s: float, output: str = "", inner_ns: float | None = None, failure: str = "", kib: int = 1000) -> Sample:
    return Sample(cpu_s, cpu_s, kib, inner_ns, output, failure)


def test_cpu_and_memory_are_the_process_and_its_children(tmp_path):
    """A child that was waited for counts: 0.2 s of CPU by its own clock, and 64 MiB."""
    work = "import time\nb = bytearray(64 << 20)\nwhile time.process_time() < 0.2: pass\n"
    text = f"import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', {work!r}], check=True)\nprint('done')"
    found = python(text, tmp_path)
    assert (found.output, found.failure) == ("done\n", "")
    assert 0.2 <= found.cpu_s < 20
    assert found.wall_s > 0.1
    assert 64 << 10 <= found.peak_kib < 256 << 10


def test_memory_is_not_ours(tmp_path):
    """What the measuring process holds is not the small process's, as it would be of a direct child."""
    ours = bytearray(300 << 20)
    assert python("pass", tmp_path).peak_kib < 150 << 10
    assert len(ours)


def test_the_time_of_one_operation_is_read_from_standard_error(tmp_path):
    assert python("import sys; print('x\\nns_per_operation 12.375', file=sys.stderr)", tmp_path).inner_ns == 12.375
    assert python("print('ns_per_operation 3')", tmp_path).inner_ns is None


def test_what_failed_is_said(tmp_path):
    assert python("import sys; sys.exit('no such thing')", tmp_path).failure == "status 1: no such thing"
    assert python("import os; os.kill(os.getpid(), 11)", tmp_path).failure == "killed by SIGSEGV"
    hung = python("import time; print('here', flush=True); time.sleep(60)", tmp_path, limit_s=1.0)
    assert hung.failure == "hung: ended after 1 s"
    assert hung.wall_s < 30


def compare(a: list[Sample], b: list[Sample], rounds: int = 1) -> tuple[Compared, int]:
    """Compare runs that are given; return how many were taken, too."""
    taken = []

    def take(samples: list[Sample]):
        left = iter(samples)

        def run() -> Sample:
            taken.append(1)
            return next(left)

        return run

    return measuring.compare(take(a), take(b), rounds), len(taken)


def test_a_and_b_alternate_and_the_first_pair_is_not_counted():
    found, taken = compare([sample(9.0), sample(1.0), sample(2.0)], [sample(9.0), sample(1.1), sample(2.4)])
    assert (found.sequence, found.failure, taken) == ("ABBA", "", 6)
    assert [one.cpu_s for one in found.samples] == [1.0, 1.1, 2.4, 2.0]
    assert found.ratio("cpu_s")[:3] == pytest.approx((1.125, 1.15, 1.175))
    assert found.difference("cpu_s")[:3] == pytest.approx((0.175, 0.25, 0.325))
    assert found.ratio("peak_kib").median == 1
    assert found.ratio("inner_ns") is None


def test_a_slow_candidate_gets_one_round():
    found, taken = compare([sample(1.0)] * 9, [sample(1.0 * measuring.SLOW + 0.1)] * 9, rounds=4)
    assert (len(found.samples), taken) == (4, 6)
    found, taken = compare([sample(1.0)] * 9, [sample(1.0 * measuring.SLOW - 0.1)] * 9, rounds=4)
    assert (len(found.samples), taken) == (16, 18)


def test_a_candidate_that_fails_or_changes_the_output_has_no_figures():
    found, taken = compare([sample(1.0, "a\nb\n")], [sample(1.0, "a\nc\n")])
    assert (found.failure, taken) == ("changed the program's output: 'c' for 'b'", 2)
    assert found.ratio("cpu_s") is None
    found, _ = compare([sample(1.0)], [sample(0.1, failure="killed by SIGSEGV")])
    assert found.failure == "killed by SIGSEGV"
    found, _ = compare([sample(1.0, failure="status 1: ")], [sample(1.0)])
    assert found.failure == "what it is compared with failed: status 1: "


def test_a_failure_in_a_later_run_is_said_too():
    found, taken = compare([sample(1.0)] * 3, [sample(1.0), sample(1.0), sample(1.0, failure="hung: ended after 9 s")])
    assert (found.failure, taken) == ("run 3, B: hung: ended after 9 s", 5)
    found, _ = compare([sample(1.0)] * 3, [sample(1.0), sample(1.0, "other")])
    assert found.failure == "run 2, B: another output"


def test_a_line_that_is_missing_is_a_difference():
    assert measuring.difference("a\nb\n", "a\n") == "'(end)' for 'b'"
    assert measuring.difference("a\n", "a\nb\n") == "'b' for '(end)'"


def test_nothing_is_left_of_a_measurement_that_is_killed(tmp_path):
    """The command dies with the one that measures it, which has no time to end it."""
    pid_file = tmp_path / "pid"
    text = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid()) + '\\n'); time.sleep(60)"
    command = measuring.timed(tmp_path / "report", 50, [sys.executable, "-S", "-c", text])
    with subprocess.Popen(command) as process:
        until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
        process.kill()
    until(lambda: not is_running(int(pid_file.read_text())))


def until(is_so) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether it runs: one that nobody has waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
