"""What memleak.pth costs the start of every Python of an environment, with MEMLEAK unset and set.

    python benchmarks/pth_cost.py [--rounds N] [--json FILE]

Run it with the Python of an environment that has the package. Two virtual environments are made that differ
in that file only. Times are medians of interleaved runs of `python -c pass`; "without, again" is the
noise. "the line" is what Python takes to process the file, measured in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

LOOP = """
import site, sys, time
best = 1e9
for _ in range(300):
    before = time.perf_counter_ns()
    site.addpackage(sys.argv[1], sys.argv[2], set())
    best = min(best, time.perf_counter_ns() - before)
print(best)
"""


def environment_of(directory: Path, *, with_pth: bool) -> tuple[Path, Path]:
    """Make a virtual environment that finds the installed package; return its Python and its site-packages."""
    installed = Path(sysconfig.get_path("platlib"))
    venv.EnvBuilder(symlinks=True).create(directory)
    (site_packages,) = directory.glob("lib/python*/site-packages")
    # Sorted before memleak.pth: the package is found when that is processed.
    (site_packages / "a.pth").write_text(f"{installed}\n")
    (site_packages / "empty.pth").write_text("")
    if with_pth:
        shutil.copy(installed / "memleak.pth", site_packages)
    return directory / "bin/python", site_packages


def milliseconds(python: Path, env: dict[str, str]) -> float:
    """Return the time from start to end of one interpreter."""
    before = time.perf_counter()
    pid = os.posix_spawn(str(python), [str(python), "-c", "pass"], env)
    _, status = os.waitpid(pid, 0)
    after = time.perf_counter()
    if status != 0:
        raise RuntimeError(f"{python} ended with status {status}")
    return (after - before) * 1e3


def line_microseconds(python: Path, site_packages: Path, name: str, env: dict[str, str]) -> float:
    """Return the best time in which Python processes a .pth file."""
    command = [str(python), "-c", LOOP, str(site_packages), name]
    return float(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout) / 1e3


def measure(rounds: int) -> dict:
    """Measure the three starts against one without the file."""
    shared = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="memleak-bench-", dir=shared) as scratch:
        directory = Path(scratch)
        without, _ = environment_of(directory / "without", with_pth=False)
        installed, site_packages = environment_of(directory / "with", with_pth=True)
        (directory / "recordings").mkdir(mode=0o700)
        unset = {name: value for name, value in os.environ.items() if not name.startswith(("MEMLEAK", "PYTHON", "LD_"))}
        on = {**unset, "MEMLEAK": "1", "MEMLEAK_DIR": str(directory / "recordings")}
        candidates = {
            "without": (without, unset),
            "without, again": (without, unset),
            "MEMLEAK not set": (installed, unset),
            "MEMLEAK=1": (installed, on),
        }
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(5):
            for python, env in candidates.values():
                milliseconds(python, env)
        for turn in range(rounds):
            names = list(candidates)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                times[name].append(milliseconds(*candidates[name]))
        line = line_microseconds(installed, site_packages, "memleak.pth", unset)
        empty = line_microseconds(installed, site_packages, "empty.pth", unset)
    rows = {}
    for name, values in times.items():
        low, over, high = statistics.quantiles([a - b for a, b in zip(values, times["without"])], n=4, method="inclusive")
        rows[name] = {
            "ms_median": statistics.median(values),
            "ms_min": min(values),
            "over_without_ms": over,
            "over_without": {"low": low, "median": over, "high": high},
        }
    machine = {"kernel": platform.release(), "machine": platform.machine(), "cpus": os.cpu_count()}
    machine["python"] = sys.version
    return {
        "benchmark": "pth_cost", "machine": machine, "rounds": rounds, "rows": rows,
        "line_us": line, "empty_file_us": empty,
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.rounds)
    print(f"{'':16} {'ms':>8} {'least':>8} {'over without':>13}")
    for name, row in result["rows"].items():
        print(f"{name:16} {row['ms_median']:8.2f} {row['ms_min']:8.2f} {row['over_without_ms']:+13.3f}")
    print(f"the line: {result['line_us']:.1f} µs; an empty .pth file: {result['empty_file_us']:.1f} µs")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
