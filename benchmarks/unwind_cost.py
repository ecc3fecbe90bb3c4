"""What one backtrace of sixteen frames costs, ours against backtrace(3): instructions (callgrind, exact) and time.

    python benchmarks/unwind_cost.py [--rounds N] [--json FILE]

The unwinder is compiled from this tree as the core is. Instructions are the difference between two run lengths, so
start-up and the first walk, which finds the rules, cancel out. Each round is a process, in which ours and backtrace(3)
alternate 200 times; times are medians of the rounds. "no rule known" is what a walk through code never seen costs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import nativebuild  # noqa: E402 - the one list of the core's flags

PARTS = (
    "elfimage",
    "dwarf",
    "cfi",
    "objects",
    "modules_seen",
    "snapshot",
    "modules",
    "unwind_thread",
    "unwind_step",
    "unwind",
)
FRAMES = 16


def compile_program(directory: Path) -> Path:
    """Compile the walks and the unwinder; return the program."""
    program = directory / "unwind_cost"
    includes = [f"-I{nativebuild.NATIVE / 'include'}", f"-I{nativebuild.NATIVE / 'src'}"]
    objects = [str(nativebuild.core_object(nativebuild.NATIVE / "src" / f"{part}.c")) for part in PARTS]
    command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", *includes, "-o", str(program), str(HERE / "unwind_cost.c")]
    nativebuild.run([*command, *objects])
    return program


def instructions_per_walk(program: Path, unwinder: str, walks: int = 10_000) -> float:
    """Return instructions per backtrace of *unwinder* (ours, libc) with the rules known, counted by callgrind."""
    counts = []
    for length in (100, 100 + walks):
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program), unwinder]
        done = subprocess.run([*command, str(length)], capture_output=True, text=True, check=True)
        match = re.search(r"Collected : (\d+)", done.stderr)
        if match is None:
            raise RuntimeError(f"callgrind printed no count: {done.stderr[-300:]}")
        counts.append(int(match.group(1)))
    return (counts[1] - counts[0]) / walks


def nanoseconds_per_walk(program: Path) -> dict[str, list[float]]:
    """Return the medians of one round, by kind of stack: ours, and backtrace(3)'s where it can do the same."""
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {name: [float(word) for word in words] for name, *words in lines}


def measure(rounds: int) -> dict:
    """Measure every kind of stack."""
    with tempfile.TemporaryDirectory(prefix="memleak-bench-") as scratch:
        program = compile_program(Path(scratch))
        seen = [nanoseconds_per_walk(program) for _ in range(rounds)]
        counts = {}
        if shutil.which("valgrind"):
            counts = {who: instructions_per_walk(program, who) for who in ("ours", "libc")}
    rows = {}
    for kind in seen[0]:
        rows[kind] = {
            who: {"ns_median": statistics.median(values), "ns_min": min(values), "ns_max": max(values)}
            for who, values in zip(("ours", "libc"), zip(*(one[kind] for one in seen)))
        }
        if "libc" in rows[kind]:
            rows[kind]["ratio_median"] = statistics.median(one[kind][1] / one[kind][0] for one in seen)
    machine = {"kernel": platform.release(), "machine": platform.machine(), "cpus": os.cpu_count()}
    machine["libc"] = platform.libc_ver()
    return {
        "benchmark": "unwind_cost", "machine": machine, "frames": FRAMES, "rounds": rounds,
        "instructions": counts, "rows": rows,
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.rounds)
    print(f"{FRAMES} frames{'':7} {'ours, ns':>9} {'min … max':>17} {'a frame':>8} {'backtrace(3)':>13} {'ratio':>6}")
    for kind, row in result["rows"].items():
        ours = row["ours"]
        spread = f"{ours['ns_min']:.0f} … {ours['ns_max']:.0f}"
        line = f"{kind:16} {ours['ns_median']:9.0f} {spread:>17} {ours['ns_median'] / FRAMES:8.1f}"
        print(line + (f" {row['libc']['ns_median']:13.0f} {row['ratio_median']:6.1f}" if "libc" in row else ""))
    for who, count in result["instructions"].items():
        print(f"instructions, {who}: {count:.1f}, {count / FRAMES:.1f} a frame")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
