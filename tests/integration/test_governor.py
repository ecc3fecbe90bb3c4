"""A real program whose allocation rate steps a hundredfold: what its sampling costs, and what is said of it.

What is compared is the cost that the core adds up, not a time that somebody else's load could lengthen; where the machine
is busy the program allocates less in a second, and less is spent.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest
from doors import SOURCES, Door
from tracing import assert_consistent, run

from memleak import recording

QUIET, BUSY = 50, 5000  # allocations in a millisecond
BUDGET = 0.01
KEPT_BYTES = 77
STEP_S = 0.02  # what a step may cost before the governor has followed, 5 ms as a rule


class Program:
    """bursts.py, running, and its recording."""

    def __init__(self, door: Door, process: subprocess.Popen) -> None:
        """Wait until it traces itself."""
        self.door, self.process = door, process
        assert process.stdout.readline() == "ready\n"
        (self.path,) = door.paths()
        self.kept = 0

    def burst(self, each_ms: int, seconds: float) -> tuple[float, float, float]:
        """Let it allocate; return what sampling cost in this time, the time, and the CPU time, in seconds."""
        before = recording.load_header(self.path).own_cost_ns
        print(each_ms, seconds, file=self.process.stdin, flush=True)
        kept, elapsed, cpu = self.process.stdout.readline().split()
        self.kept = int(kept)
        return (recording.load_header(self.path).own_cost_ns - before) / 1e9, float(elapsed), float(cpu)


def test_a_step_keeps_to_the_budget(door, program):
    """1x, 100x, 1x: the cost of each part, the knobs in force, the estimates, and every place that says so."""
    library = program("doors/bursts.c", "-shared", "-fPIC", name="bursts.so")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = (sys.executable, SOURCES / "bursts.py", library)
    with door.start(*command, mode="normal", env={"MEMLEAK_BUDGET": None}, **pipes) as process:
        running = Program(door, process)
        running.burst(BUSY, 0.5)  # whatever it was left with by starting
        spent, elapsed, cpu = running.burst(BUSY, 3)
        assert spent <= 1.2 * BUDGET * elapsed + STEP_S
        assert spent >= 0.3 * BUDGET * cpu  # nor is it thinned out for nothing
        busy = recording.load_header(running.path)
        assert busy.governor.widened > 1 and busy.effective[1] > busy.requested[1] == 256
        assert busy.effective[1] >= 8 * busy.effective[0] and busy.effective.epoch == busy.requested.epoch
        assert busy.effective_sample_bytes > busy.requested_sample_bytes == 4 << 20
        words = said(process.pid, busy)
        for _ in range(40):
            spent, elapsed, _ = running.burst(QUIET, 1)
            assert spent <= BUDGET * elapsed + STEP_S
            if recording.load_header(running.path).governor.widened == 1:
                break
        quiet = recording.load_header(running.path)
        assert quiet.effective == quiet.requested and quiet.effective_sample_bytes == 4 << 20
        assert words != said(process.pid, quiet)
        spent, elapsed, _ = running.burst(BUSY, 2)  # the step itself
        assert spent <= 1.2 * BUDGET * elapsed + STEP_S
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        assert "; budget 1 %: intervals " in output
    found = recording.load(running.path)
    assert_consistent(found)
    weights = [sample[2] / 1024 for sample in found.live if sample[1] == KEPT_BYTES]
    error = math.sqrt(sum(weight * (weight - 1) for weight in weights))
    print(f"{door.name}: {sum(weights):.0f} ± {error:.0f} of {running.kept}, weights {min(weights):.0f}…{max(weights):.0f}")
    assert max(weights) > 200 > min(weights)
    assert abs(sum(weights) - running.kept) <= 6 * error


def said(pid: int, header: recording.Header) -> str:
    """Return what status and top say the governor does, which is what stands in the header."""
    words = str(header.governor)
    shown = [run(sys.executable, "-m", "memleak", verb, str(pid)) for verb in ("status", "top")]
    for done in shown:
        assert done.returncode == 0 and "; budget 1 %: intervals " in done.stdout, done.stderr
    one = json.loads(run(sys.executable, "-m", "memleak", "status", "--json", str(pid)).stdout)[0]
    assert one["governor"]["budget"] == BUDGET and one["footer"]["governors"][0]["recordings"] == 1
    return words


def test_budget_is_set_from_outside(door, program):
    """memleak set budget=0 takes the governor away within a second or so, and a bad value changes nothing."""
    library = program("doors/bursts.c", "-shared", "-fPIC", name="bursts.so")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = (sys.executable, SOURCES / "bursts.py", library)
    with door.start(*command, mode="normal", env={"MEMLEAK_BUDGET": "0.0001"}, **pipes) as process:
        running = Program(door, process)
        running.burst(BUSY, 1)
        assert recording.load_header(running.path).governor.widened > 1
        for bad in ("budget=1.5", "budget=x", "budget=-1", "budget=0.0000001"):
            done = run(sys.executable, "-m", "memleak", "set", str(process.pid), bad)
            assert done.returncode == 2 and done.stdout == "" and "budget" in done.stderr + bad
        assert recording.load_header(running.path).budget_ppm == 100
        done = run(sys.executable, "-m", "memleak", "set", str(process.pid), "--budget", "0")
        assert (done.returncode, done.stderr) == (0, "") and "; no budget" in done.stdout
        for _ in range(20):
            running.burst(BUSY, 0.5)
            if recording.load_header(running.path).governor.widened == 1:
                break
        header = recording.load_header(running.path)
        assert header.effective == header.requested and header.budget_ppm == 0
        process.communicate(timeout=60)


@pytest.mark.parametrize(("words", "budget_ppm"), [((), 10_000), (("--budget", "0.002"), 2000), (("--budget=0",), 0)])
def test_run_hands_the_budget_on(runtime_directory, program, words, budget_ppm):
    """memleak run --budget, which wins over the environment; the summary says what bounds the cost."""
    environment = {**os.environ, "MEMLEAK_DIR": str(runtime_directory), **({"MEMLEAK_BUDGET": "0.5"} if words else {})}
    done = run(sys.executable, "-m", "memleak", "run", *words, program("settings.c"), env=environment)
    assert done.returncode == 0
    (path,) = runtime_directory.glob("*.mlrec")
    assert recording.load_header(path).budget_ppm == budget_ppm
    assert ("; no budget" if budget_ppm == 0 else f"; budget {budget_ppm / 1e4:g} %") in done.stderr
