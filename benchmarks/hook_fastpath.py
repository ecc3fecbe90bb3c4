"""What a malloc + free pair costs under the preload door: instructions (callgrind, exact) and time.

    python benchmarks/hook_fastpath.py [--rounds N] [--json FILE]

Instructions are the difference between two run lengths, so start-up cancels out. Times are medians of
interleaved runs, stock against stock first: that row is the noise.
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
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODES = ("not started", "off", "normal", "full")


def compile_program(directory: Path) -> Path:
    """Compile the loop; return the program."""
    program = directory / "hook_fastpath"
    command = ["gcc", "-O2", "-fno-builtin-malloc", "-o", str(program), str(HERE / "hook_fastpath.c")]
    subprocess.run(command, check=True)
    return program


def environment(library: Path | None, mode: str, recordings: Path) -> dict[str, str]:
    """Return the environment of one candidate; no library is stock."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MEMLEAK")}
    if library is None:
        return env
    env["LD_PRELOAD"] = str(library)
    if mode != "not started":
        # FOLLOW: under valgrind the traced program is exec'd by the launcher that LD_PRELOAD reaches first.
        env.update(MEMLEAK="1", MEMLEAK_FOLLOW="1", MEMLEAK_MODE=mode, MEMLEAK_DIR=str(recordings), MEMLEAK_SEED="1")
    return env


def instructions_per_pair(program: Path, env: dict[str, str], pairs: int = 200_000) -> float:
    """Return instructions per malloc + free pair, counted by callgrind."""
    counts = []
    for length in (20_000, 20_000 + pairs):
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program), str(length)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        match = re.search(r"Collected : (\d+)", done.stderr)
        if match is None:
            raise RuntimeError(f"callgrind printed no count: {done.stderr[-300:]}")
        counts.append(int(match.group(1)))
    return (counts[1] - counts[0]) / pairs


def nanoseconds_per_pair(program: Path, env: dict[str, str], pairs: int) -> float:
    """Return the time of one pair in one run."""
    done = subprocess.run([str(program), str(pairs)], env=env, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(library: Path, rounds: int) -> dict:
    """Measure every mode against stock."""
    shared = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="memleak-bench-", dir=shared) as scratch:
        directory = Path(scratch)
        program = compile_program(directory)
        candidates = {"stock": environment(None, "", directory), "stock again": environment(None, "", directory)}
        candidates |= {mode: environment(library, mode, directory) for mode in MODES}
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(rounds):
            for name, env in candidates.items():
                times[name].append(nanoseconds_per_pair(program, env, 1_000_000 if name == "full" else 5_000_000))
        counts = {}
        if shutil.which("valgrind"):
            counts = {name: instructions_per_pair(program, env) for name, env in candidates.items() if name != "stock again"}
    rows = {}
    for name, values in times.items():
        ratios = [value / stock for value, stock in zip(values, times["stock"])]
        over = [value - stock for value, stock in zip(values, times["stock"])]
        quartiles = statistics.quantiles(over, n=4, method="inclusive") if len(over) > 1 else over * 3
        rows[name] = {
            "ns_median": statistics.median(values),
            "ns_min": min(values),
            "ns_max": max(values),
            "ratio_median": statistics.median(ratios),
            "over_stock_ns": dict(zip(("low", "median", "high"), quartiles)),
            "instructions": counts.get(name),
            "instructions_over_stock": counts[name] - counts["stock"] if name in counts else None,
        }
    machine = {"kernel": platform.release(), "machine": platform.machine(), "cpus": os.cpu_count(), "libc": platform.libc_ver()}
    return {"benchmark": "hook_fastpath", "machine": machine, "rounds": rounds, "rows": rows}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, help="libmemleak.so (default: the installed package's)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    library = options.library
    if library is None:
        import memleak

        library = Path(memleak.__file__).parent / "libmemleak.so"
    result = measure(library, options.rounds)
    print(f"{'':12} {'ns a pair':>10} {'min … max':>16} {'ratio':>7} {'instr.':>8} {'over stock':>10}")
    for name, row in result["rows"].items():
        spread = f"{row['ns_min']:.1f} … {row['ns_max']:.1f}"
        counted = f"{row['instructions']:8.1f} {row['instructions_over_stock']:+10.1f}" if row["instructions"] else ""
        print(f"{name:12} {row['ns_median']:10.2f} {spread:>16} {row['ratio_median']:7.3f} {counted}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
