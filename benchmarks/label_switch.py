"""What entering or leaving a label takes, with and without `outcome=True`, on each CPython.

    python benchmarks/label_switch.py [--rounds N] [--instructions] [PYTHON …]

A switch is one of the two ends of `with label:` around nothing, with a label object that is used again, while the
process is traced with the knobs it starts with: half of what a turn of the loop takes, the loop's own part included.
PYTHON: interpreters that have the package; else the one that runs this. Times are CPU time of the thread, the least of
many short turns of rounds that alternate. --instructions: counted by valgrind instead, which nobody else disturbs.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KINDS = {"plain": "sql='SELECT ?'", "outcome": "sql='SELECT ?', outcome=True"}
BLOCKS = """
import memleak, time
memleak.start()
it = memleak.label({})
def blocks(n):
    for _ in range(n):
        with it: pass
"""
TIMED = """
blocks(1000)
best = 1e9
for _ in range(40):
    before = time.thread_time_ns()
    blocks(10_000)
    best = min(best, (time.thread_time_ns() - before) / 20_000)
print(best)
"""
FEW, MANY = 1_000, 11_000


def run(words: list[str]) -> str:
    """Run a program, apart from what else is recorded here; return its output."""
    with tempfile.TemporaryDirectory() as directory:
        env = {**os.environ, "MEMLEAK_DIR": directory, "PYTHONHASHSEED": "0"}
        return subprocess.run(words, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def nanoseconds(python: str, kind: str) -> float:
    """Return CPU time a switch."""
    return float(run([python, "-c", BLOCKS.format(KINDS[kind]) + TIMED]))


def instructions(python: str, kind: str) -> float:
    """Return instructions a switch."""
    counted = []
    for turns in (FEW, MANY):
        with tempfile.TemporaryDirectory() as directory:
            tool = ["valgrind", "--tool=callgrind", "-q", f"--callgrind-out-file={directory}/out"]
            run([*tool, python, "-c", BLOCKS.format(KINDS[kind]) + f"blocks({turns})"])
            (total,) = re.findall(r"^(?:summary|totals): (\d+)", Path(directory, "out").read_text(), re.MULTILINE)[:1]
            counted.append(int(total))
    return (counted[1] - counted[0]) / (MANY - FEW) / 2


def main() -> None:
    """Print a line for each interpreter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", metavar="PYTHON", nargs="*", default=[sys.executable])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--instructions", action="store_true")
    options = parser.parse_args()
    measure, rounds = (instructions, 1) if options.instructions else (nanoseconds, options.rounds)
    best: dict[tuple[str, str], float] = {}
    for _ in range(rounds):
        for python in options.pythons:
            for kind in KINDS:
                best[python, kind] = min(measure(python, kind), best.get((python, kind), float("inf")))
    unit = "instructions" if options.instructions else "ns"
    for python in options.pythons:
        print(f"{python}: " + ", ".join(f"{kind} {best[python, kind]:.0f} {unit}" for kind in KINDS))


if __name__ == "__main__":
    main()
