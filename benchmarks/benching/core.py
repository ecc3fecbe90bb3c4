"""Parts of a sample's cost, in nanoseconds: the hook, the backtrace, the insertion, and whole samples in programs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import figures, measuring
from .building import compiled, compiled_library
from .candidates import CANDIDATES, PYTHON
from .places import BENCHMARKS, PROGRAMS, ROOT, Places
from .workloads import LIMIT_S

sys.path[:0] = [str(ROOT / "tests"), str(BENCHMARKS)]

import hook_fastpath  # noqa: E402
import unwind_cost  # noqa: E402

import nativebuild  # noqa: E402


def hook(places: Places, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure pairs of malloc and free through both hooks, by time and by callgrind."""
    found = hook_fastpath.measure(places.core, 3 if quick else 3 * rounds)
    rows = found["rows"]
    lines = []
    for name, row in rows.items():
        over, spread = row["over_stock_ns"], row["instructions_over_stock"]
        counted = f", {spread:+.2f} instructions" if spread is not None else ""
        lines.append(f"{name}: {over['median']:+.2f} ns [{over['low']:+.2f} … {over['high']:+.2f}] over stock{counted}")
    return {"lines": lines, "rows": rows}


def backtrace(_: Places, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure walks over sixteen frames, ours and the C library's."""
    found = unwind_cost.measure(3 if quick else 3 * rounds)
    lines = []
    for kind, row in found["rows"].items():
        ours = row["ours"]
        lines.append(f"{kind}: {ours['ns_median']:.0f} ns [{ours['ns_min']:.0f} … {ours['ns_max']:.0f}] (min … max)")
    return {"lines": lines, "rows": found["rows"], "instructions": found["instructions"]}


def insertion(places: Places, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure the live set's insertion with more and more samples in it."""
    program = nativebuild.test_program(PROGRAMS / "insert_cost.c")
    seen: dict[str, dict[str, list[float]]] = {}
    for _ in range(2 if quick else 3 * rounds):
        directory = places.fresh()
        sample = measuring.run_process(
            [str(program)], CANDIDATES["stock"].way(places).environment(directory), LIMIT_S, directory
        )
        if sample.failure:
            raise RuntimeError(f"insert_cost: {sample.failure}")
        for live, insert_ns, remove_ns in (line.split() for line in sample.output.splitlines() if line.count(" ") == 2):
            row = seen.setdefault(live, {"insert_ns": [], "remove_ns": []})
            row["insert_ns"].append(float(insert_ns))
            row["remove_ns"].append(float(remove_ns))
    rows = {
        live: {name: figures.spread(values)._asdict() for name, values in row.items()} for live, row in seen.items()
    }
    lines = [
        f"{int(live):,} live: insertion {figures.Spread(**row['insert_ns']).words(1)} ns, "
        f"removal {figures.Spread(**row['remove_ns']).words(1)} ns"
        for live, row in rows.items()
    ]
    return {"lines": lines, "rows": rows}


def whole_sample(places: Places, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure calls of malloc that were sampled and that were not: in the Flask service, and in a loop at 1/1."""
    clock = compiled_library("sample_clock.c", f"-I{ROOT / 'native/include'}")
    ghz = cycles_per_ns()
    programs = {
        "in a service": ("memleak-normal", [str(PROGRAMS / "service.py"), "300" if quick else "3000"], PYTHON),
        "hot": ("memleak-full", [str(compiled("allocations.c")), "pair", "100000" if quick else "1000000"], "native"),
    }
    rows: dict[str, Any] = {}
    for name, (candidate, words, kind) in programs.items():
        values: list[float] = []
        samples = 0
        for _ in range(1 if quick else rounds):
            sampled, plain = clocked(places, clock, candidate, words, kind)
            samples += sum(sampled.values())
            # At 1/1 every call is sampled: then nothing is taken off, the plain call's few ns stay in it.
            values.append((figures.weighted_median(sampled) - (figures.weighted_median(plain) if plain else 0)) / ghz)
        rows[name] = {"ns": figures.spread(values)._asdict(), "samples": samples}
    lines = [
        f"{name}: p50 {figures.Spread(**row['ns']).words(0)} ns over one not sampled, {row['samples']:,} samples"
        for name, row in rows.items()
    ]
    return {"lines": lines, "rows": rows, "cycles_per_ns": ghz}


def clocked(
    places: Places, clock: Path, candidate: str, words: list[str], kind: str
) -> tuple[dict[int, int], dict[int, int]]:
    """Run a program with the clock in front of malloc; return histograms of cycles: sampled calls, others."""
    directory = places.fresh()
    try:
        way = CANDIDATES[candidate].way(places)
        environment = way.environment(directory, BENCH_CLOCK=str(directory / "clock"))
        environment["LD_PRELOAD"] = f"{places.core} {clock}"
        sample = measuring.run_process(
            way.command(words, kind, directory, places.python), environment, LIMIT_S, directory
        )
        if sample.failure:
            raise RuntimeError(f"{words[0]} with a clock: {sample.failure}")
        counts: dict[str, dict[int, int]] = {"sampled": {}, "plain": {}}
        for which, cycles, count in (line.split() for line in (directory / "clock").read_text().splitlines()):
            counts[which][int(cycles)] = int(count)
        return counts["sampled"], counts["plain"]
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def cycles_per_ns() -> float:
    """Return the rate of the time stamp counter, measured against the clock with a tiny program."""
    program = compiled("cycles.c")
    return float(subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout)
