"""How wrong estimates are: eight planted leaks whose sizes are known, as each tool sees them at its default rate."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import figures, measuring, peers, profiles
from .building import compiled_library
from .candidates import CANDIDATES, PYTHON
from .places import PROGRAMS, Places
from .workloads import LIMIT_S

DECOMPRESS = """
import sys, zstandard
sys.stdout.buffer.write(zstandard.ZstdDecompressor().stream_reader(sys.stdin.buffer).read())
"""
GROUPS = {"native": "native_site_", "Python": "python_site_", "all": ""}


def measure(places: Places, rounds: int, quick: bool) -> dict[str, Any]:
    """Run the program with each tool several times; return errors by site and their root mean squares by run."""
    rows: dict[str, Any] = {}
    lines = []
    for name, read in READERS.items():
        runs: list[tuple[dict[str, float], dict[str, float]]] = []
        try:
            # Each a little larger: a tool whose chance is the same in every process would say the same each time.
            runs += [one_run(places, name, read, 100 + number) for number in range(2 if quick else 3 * rounds)]
        except (peers.NotAvailable, RuntimeError, ValueError, OSError) as reason:
            rows[name] = {"failure": str(reason)}
            lines.append(f"{name}: {reason}")
            continue
        rows[name] = row = summary(runs)
        words = ", ".join(
            f"{group} {figures.Spread(**one['rms']).words(1, 100)} % ({one['seen']} of {one['sites']} sites)"
            for group, one in row["groups"].items()
        )
        lines.append(f"{name}: RMS of relative errors: {words}")
    return {"lines": lines, "rows": rows}


def summary(runs: list[tuple[dict[str, float], dict[str, float]]]) -> dict[str, Any]:
    """Return for each group of sites the RMS of relative errors, quartiles over the runs.

    A site that a tool saw in no run is not among the errors; how many it sees stands beside them. One that it sees in
    some runs counts as an estimate of nothing, an error of 1, in the others.
    """
    sites = list(runs[0][0])
    seen = [site for site in sites if any(estimates.get(site) for _, estimates in runs)]
    groups: dict[str, Any] = {}
    for group, prefix in GROUPS.items():
        inside = [site for site in seen if site.startswith(prefix)]
        if not inside:
            continue
        rms = [
            figures.rms_relative_error([truth[site] for site in inside], [estimates.get(site, 0.0) for site in inside])
            for truth, estimates in runs
        ]
        count = sum(site.startswith(prefix) for site in sites)
        groups[group] = {"rms": figures.spread(rms)._asdict(), "seen": len(inside), "sites": count}
    relative = {site: [estimates.get(site, 0.0) / truth[site] for truth, estimates in runs] for site in sites}
    return {"groups": groups, "estimate_over_truth": relative, "runs": len(runs)}


Reader = Callable[[Path, Places], dict[str, float]]


def one_run(places: Places, name: str, read: Reader, percent: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return truth and estimates of one process."""
    library = compiled_library("sites.c")
    directory = places.fresh()
    try:
        way = CANDIDATES[name].way(places)
        more = {}
        if name == "ddtrace":
            more["BENCH_PPROF"] = str(directory / "pprof")
        if name == "jemalloc-prof":
            more["BENCH_JEMALLOC"] = str(directory / "heap")
        recordings = directory_in_memory(places)
        environment = way.environment(directory, **more)
        if "MEMLEAK_DIR" in environment:
            environment["MEMLEAK_DIR"] = str(recordings)
        words = [str(PROGRAMS / "sites.py"), str(library), str(percent)]
        sample = measuring.run_process(
            way.command(words, PYTHON, directory, places.python), environment, LIMIT_S, directory
        )
        if sample.failure:
            raise RuntimeError(sample.failure)
        return json.loads(sample.output), read(directory, places)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def directory_in_memory(places: Places) -> Path:
    """Return an empty directory for the recording of one process."""
    directory = places.recordings / "sites"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    return directory


def memleak_estimates(_: Path, places: Places) -> dict[str, float]:
    """Return the tracer's estimates by function."""
    from memleak import query, recording
    from memleak.symbolize import Symbolizer

    (path,) = (places.recordings / "sites").glob("*.mlrec")
    with Symbolizer() as symbolizer:
        snapshot = query.Snapshot(recording.load(path), symbolizer=symbolizer)
        native = {row.group: float(row.est_bytes) for row in snapshot.top(None, group_by="function")}
        # A Python function's file stands behind its name.
        python = {
            (row.group or "").partition(" ")[0]: float(row.est_bytes)
            for row in snapshot.top(None, group_by="python_function")
        }
    sites = {name: held for name, held in native.items() if name and name.startswith(GROUPS["native"])}
    return {**sites, **{name: held for name, held in python.items() if name.startswith(GROUPS["Python"])}}


def jemalloc_estimates(directory: Path, _: Places) -> dict[str, float]:
    """Return jemalloc's, scaled as jeprof does."""
    library = compiled_library("sites.c")
    listed = subprocess.run(["nm", "-S", str(library)], capture_output=True, text=True, check=True).stdout
    return profiles.jemalloc_bytes((directory / "heap").read_text(), str(library), profiles.nm_symbols(listed))


def ddtrace_estimates(directory: Path, _: Places) -> dict[str, float]:
    """Return ddtrace's, out of the file that its exporter writes in place of sending it."""
    found = sorted(directory.glob("pprof.*"))
    if not found:
        raise RuntimeError("ddtrace wrote no profile")
    with open(found[-1], "rb") as file:
        raw = subprocess.run(
            [str(peers.python()), "-c", DECOMPRESS], stdin=file, capture_output=True, check=True
        ).stdout
    return profiles.pprof_bytes(raw)


READERS: dict[str, Reader] = {
    "memleak-normal": memleak_estimates,
    "jemalloc-prof": jemalloc_estimates,
    "ddtrace": ddtrace_estimates,
}
