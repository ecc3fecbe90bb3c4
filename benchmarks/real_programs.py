"""How fast Debian's programs are with the core preloaded, in proportion to without.

    python benchmarks/real_programs.py [--pairs N] [--scale N] [--mode normal|full] [--json FILE] [PROGRAM…]

Run it with the Python of an environment that has the package. Each program works for a second or so, without and
with in turns; "rate" is the median of the pairs' ratios of time (1 = as fast), "low" and "high" its quartiles, "noise" the same of
pairs that are both without. The results must be the same, or the program is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests/torture")]

from observing import clean_environment, see
from programs import Program, installed

from memleak import _native


def timed(program: Program, variables: dict[str, str]) -> tuple[float, tuple]:
    """Return the seconds of one run, and what came of it."""
    before = time.perf_counter()
    seen = see(["sh", "-c", program.work], variables)
    return time.perf_counter() - before, (seen.status, seen.output, seen.files)


def measure(program: Program, pairs: int, scale: int, mode: str) -> dict[str, float]:
    """Return rate, quartiles, noise and the seconds of a run."""
    plain = clean_environment(N=str(scale), LC_ALL="C")
    directory = tempfile.mkdtemp(prefix="memleak-bench-", dir="/dev/shm")
    core = {"MEMLEAK": "1", "MEMLEAK_FOLLOW": "1", "MEMLEAK_MODE": mode, "MEMLEAK_DIR": directory}
    traced = {**plain, **core, "LD_PRELOAD": _native.library_path()}
    ratios, noise, seconds = [], [], []
    wanted = timed(program, plain)[1]
    try:
        for number in range(pairs):
            order = (plain, traced, plain) if number % 2 else (plain, plain, traced)
            times = []
            for variables in order:
                took, result = timed(program, variables)
                if result != wanted:
                    raise RuntimeError(f"{program.command}: another result with {variables is traced and 'the core' or 'nothing'}")
                times.append((variables is traced, took))
            first, second = [took for is_traced, took in times if not is_traced]
            (ours,) = [took for is_traced, took in times if is_traced]
            # The untraced run next to the traced one in time.
            ratios.append(second / ours if number % 2 == 0 else (first + second) / 2 / ours)
            noise.append(first / second)
            seconds += [first, second]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    low, rate, high = statistics.quantiles(ratios, n=4, method="inclusive")
    noise_low, middle, noise_high = statistics.quantiles(noise, n=4, method="inclusive")
    return {
        "rate": rate, "low": low, "high": high, "seconds": statistics.median(seconds),
        "noise": middle, "noise_low": noise_low, "noise_high": noise_high,
    }  # fmt: skip


def main() -> None:
    """Measure each program, print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--scale", type=int, default=8)
    parser.add_argument("--mode", choices=["normal", "full", "off"], default="normal")
    parser.add_argument("--json", type=Path)
    parser.add_argument("program", nargs="*")
    options = parser.parse_args()
    results = {}
    print(f"{'program':10} {'rate':>6} {'low':>6} {'high':>6} {'noise':>6} {'seconds':>8}")
    for name, program in installed().items():
        if options.program and name not in options.program:
            continue
        results[name] = one = measure(program, options.pairs, options.scale, options.mode)
        print(f"{name:10} {one['rate']:6.3f} {one['low']:6.3f} {one['high']:6.3f} {one['noise']:6.3f} {one['seconds']:8.3f}", flush=True)
    if options.json:
        machine = {"machine": platform.platform(), "cores": os.cpu_count(), "mode": options.mode}
        options.json.write_text(json.dumps({**machine, "programs": results}, indent=2))


if __name__ == "__main__":
    main()
