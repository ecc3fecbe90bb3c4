"""A change of knobs is followed within 64 allocations of each thread, whoever asks for it, through either door."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from doors import SOURCES, Door, Libraries
from tracing import assert_consistent, run

LOOK = 64  # a thread looks at the knobs at its 64th allocation, its 128th, …
BEFORE = (0, 1, 17, 63, 64, 65, 200)  # what each thread has allocated before the first change
TAKEN = 200  # and after each


class Program:
    """steps.py, running."""

    def __init__(self, process: subprocess.Popen) -> None:
        """Wait until it traces itself."""
        self.process = process
        self.expect("ready")

    def expect(self, word: str) -> None:
        """Read its answer."""
        assert self.process.stdout.readline() == f"{word}\n"

    def do(self, *words: object) -> None:
        """Let it do one thing."""
        print(*words, file=self.process.stdin, flush=True)
        self.expect("done")


@contextmanager
def stepping(door: Door, library: str) -> Iterator[Program]:
    """Run steps.py to its end."""
    command = (sys.executable, SOURCES / "steps.py", library, len(BEFORE))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with door.start(*command, mode="off", **pipes) as process:
        yield Program(process)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "", "")


def change(program: Program, who: str, mode: str) -> None:
    """Ask for a mode, from inside or outside."""
    if who == "configure":
        program.do("mode", mode)
        return
    done = run(sys.executable, "-m", "memleak", "set", str(program.process.pid), f"mode={mode}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("who", ["configure", "set"])
def test_each_thread_follows_within_64_allocations(door, program, who):
    """Idle or not, each at its own place: up to its next look its allocations fall under the old knobs, then none."""
    library = program("doors/steps.c", "-shared", "-fPIC", "-fno-builtin", name="steps.so")
    made, expected = list(BEFORE), set()
    with stepping(door, library) as running:
        for thread, count in enumerate(BEFORE):
            running.do("take", thread, count, 1000)
        size = 2000
        for number, mode in enumerate(("full", "off", "full", "off")):
            if number == 2:
                running.do("churn", 1)  # the process then adopts them long before its sleeping threads do
            change(running, who, mode)
            for thread in range(len(BEFORE)):
                running.do("take", thread, TAKEN, size)
                # A thread's first allocation of all falls under the knobs of now.
                old = LOOK - made[thread] % LOOK if made[thread] else 0
                sizes = range(size + old, size + TAKEN) if mode == "full" else range(size, size + old)
                expected.update(sizes)
                made[thread] += TAKEN + number  # so that the place differs each time
                running.do("take", thread, number, 1000)
                size += TAKEN
        running.do("churn", 0)
    found = door.last()
    assert_consistent(found)
    libraries = Libraries([library])
    kept = {id(row) for row in found.rows if "steps.so:keep_step" in libraries.stack(found, row)[:1]}
    sizes = Counter(sample[1] for sample in found.live if id(found.row_of(sample)) in kept and sample[1] >= 2000)
    assert sizes == Counter(expected)
    assert found.samples_lost == {}


@pytest.mark.parametrize("who", ["configure", "set"])
def test_the_interpreter_follows_within_64_allocations(door, program, who):
    """Its small objects are one stream for all threads."""
    library = program("doors/steps.c", "-shared", "-fPIC", "-fno-builtin", name="steps.so")
    modes = ("off", "full", "off", "full", "off")
    with stepping(door, library) as running:
        for number, mode in enumerate(modes):
            change(running, who, mode)
            running.do("objects", 1000, 200 + number)
    found = door.last()
    assert_consistent(found)
    held = Counter(
        sample[1]
        for sample in found.live
        if found.row_of(sample).mod_name == "pymalloc_obj"
        and any(frame.name == "keep_objects" for frame in found.row_of(sample).python_stack)
    )
    for number, mode in enumerate(modes):
        least, most = (1000 - LOOK, 1000) if mode == "full" else (0, LOOK)
        assert least <= held[200 + number] <= most, (mode, held)
