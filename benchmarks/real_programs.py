"""How fast Debian's programs are with the core preloaded, in proportion to without.

    python benchmarks/real_programs.py [--pairs N] [--seconds N | --scale N] [--mode normal|full] [--json FILE] [PROGRAM…]

Run it with the Python of an environment that has the package. Each program gets work for about two seconds (--scale: that
many times its least work), without and with in turns; "rate" is the median of the pairs' ratios of time (1 = as fast),
"low" and "high" its quartiles, "cpu" the same of processor time, "noise" the rate of pairs that are both without.
The results must be the same, or the program is not measured. The last line is not a rate: what one start of a program
that does nothing takes longer, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
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

MOST_SCALE = 4096


def processor_seconds() -> float:
    """Return what the children so far have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(program: Program, variables: dict[str, str]) -> tuple[float, float, tuple]:
    """Return the seconds of one run, those of processors, and what came of it."""
    used, before = processor_seconds(), time.perf_counter()
    seen = see(["sh", "-c", program.work], variables)
    return time.perf_counter() - before, processor_seconds() - used, (seen.status, seen.output, seen.files)


def scale_for(program: Program, seconds: float) -> int:
    """Return the scale at which a program works about that long."""
    scale = 2
    for _ in range(12):
        took = timed(program, clean_environment(N=str(scale), LC_ALL="C"))[0]
        if seconds * 0.8 <= took or scale == MOST_SCALE:
            break
        # Not all at once: the first second of some is spent on something else than work.
        scale = min(MOST_SCALE, max(scale + 1, round(scale * min(8, seconds / took))))
    return scale


def measure(program: Program, pairs: int, scale: int, mode: str) -> dict[str, float]:
    """Return rate, quartiles, noise and the seconds of a run."""
    plain = clean_environment(N=str(scale), LC_ALL="C")
    directory = tempfile.mkdtemp(prefix="memleak-bench-", dir="/dev/shm")
    core = {"MEMLEAK": "1", "MEMLEAK_FOLLOW": "1", "MEMLEAK_MODE": mode, "MEMLEAK_DIR": directory}
    traced = {**plain, **core, "LD_PRELOAD": _native.library_path()}
    ratios, processor, noise, seconds = [], [], [], []
    wanted = timed(program, plain)[2]
    try:
        for number in range(pairs):
            order = (plain, traced, plain) if number % 2 else (plain, plain, traced)
            untraced = []
            for variables in order:
                took, used, result = timed(program, variables)
                if result != wanted:
                    raise RuntimeError(f"{program.command}: another result with {variables is traced and 'the core' or 'nothing'}")
                if variables is traced:
                    ours, ours_used = took, used
                else:
                    untraced.append((took, used))
            (first, first_used), (second, second_used) = untraced
            # The untraced runs next to the traced one in time.
            ratios.append((first + second) / 2 / ours if number % 2 else second / ours)
            processor.append((first_used + second_used) / 2 / ours_used if number % 2 else second_used / ours_used)
            noise.append(first / second)
            seconds += [first, second]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    low, rate, high = statistics.quantiles(ratios, n=4, method="inclusive")
    noise_low, middle, noise_high = statistics.quantiles(noise, n=4, method="inclusive")
    return {
        "rate": rate, "low": low, "high": high, "cpu": statistics.median(processor), "seconds": statistics.median(seconds),
        "noise": middle, "noise_low": noise_low, "noise_high": noise_high,
    }  # fmt: skip


def start_cost(pairs: int, mode: str) -> dict[str, float]:
    """Return what starting a program that does nothing takes, without and with the core, in milliseconds."""
    starts = Program("true", "for i in 1 2 3 4 5 6 7 8 9 10; do env true; done")  # 21 starts: env's and what it becomes, and sh
    seen = measure(starts, pairs, 1, mode)
    plain_ms = seen["seconds"] * 1000 / 21
    return {"without_ms": plain_ms, "with_ms": plain_ms / seen["rate"]}


def main() -> None:
    """Measure each program, print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--scale", type=int)
    parser.add_argument("--mode", choices=["normal", "full", "off"], default="normal")
    parser.add_argument("--json", type=Path)
    parser.add_argument("program", nargs="*")
    options = parser.parse_args()
    tempfile.tempdir = "/dev/shm"  # a disk's moods are not the programs'
    results = {}
    print(f"{'program':10} {'rate':>6} {'low':>6} {'high':>6} {'cpu':>6} {'noise':>6} {'seconds':>8}")
    for name, program in installed().items():
        if options.program and name not in options.program:
            continue
        scale = options.scale or scale_for(program, options.seconds)
        results[name] = one = measure(program, options.pairs, scale, options.mode)
        print(f"{name:10} {one['rate']:6.3f} {one['low']:6.3f} {one['high']:6.3f} {one['cpu']:6.3f} {one['noise']:6.3f} {one['seconds']:8.3f}", flush=True)
    start = start_cost(4 * options.pairs, options.mode)
    print(f"a start    {start['without_ms']:.2f} ms without, {start['with_ms']:.2f} ms with")
    if options.json:
        machine = {"machine": platform.platform(), "cores": os.cpu_count(), "mode": options.mode}
        options.json.write_text(json.dumps({**machine, "programs": results, "start": start}, indent=2))


if __name__ == "__main__":
    main()
