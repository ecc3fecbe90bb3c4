"""Where the time and the memory go that tracing costs the Flask service: perf's samples by what the core's files are for, smaps by mapping."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from . import measuring, peers
from .candidates import CANDIDATES, PYTHON
from .places import PROGRAMS, Places
from .room import resident
from .workloads import LIMIT_S

REQUESTS = {"memleak-off": 6000, "memleak-normal": 6000, "memleak-full": 1500}
FREQUENCY_HZ = 2500
# What the C files are for; one that is not here is "the rest".
PURPOSES = {
    "hooks": ("hook_malloc", "hook_pymem", "hook_new", "hook_events", "wrap_pymem", "counter", "sampler"),
    "native walk": ("unwind", "unwind_step", "unwind_thread", "cfi", "modules", "modules_seen", "snapshot", "objects", "elfimage"),
    "Python walk": ("pyframes", "pycode", "pyruntime", "greenlets"),
    "live set": ("liveset", "bitmap"),
    "rows": ("rows", "index", "catalog", "recording", "recording_room"),
    "a sample's own course": ("tracer", "tracer_gate", "tracer_take", "samples", "clock", "governor", "stats"),
}
REPORTED = re.compile(r"^\s*([\d.]+)%\s+(\S+)\s+\[[.k]\]\s+(\S+)", flags=re.MULTILINE)
DEFINED = re.compile(r"^[0-9a-f]+ \w (\S+)\t\S*?(\w+)\.[ch]:\d+$", flags=re.MULTILINE)


def measure(places: Places, _: int, quick: bool) -> dict[str, Any]:
    """Profile the service in each way, then look at its mappings."""
    cpu = {name: cpu_shares(places, name, quick) for name in REQUESTS}
    memory = memory_kib(places, quick)
    lines = [
        f"CPU, {name}: {sum(shares.values()):.2f} % in the core: "
        + ", ".join(f"{purpose} {share:.2f}" for purpose, share in sorted(shares.items(), key=lambda item: -item[1]))
        for name, shares in cpu.items()
    ]
    added = ", ".join(f"{what} {kib:+,}" for what, kib in sorted(memory.items(), key=lambda item: -item[1]))
    lines.append(f"memory, memleak-normal: {sum(memory.values()):+,} KiB resident at the end: {added}")
    return {"lines": lines, "cpu": cpu, "memory": memory}


# -- CPU ---------------------------------------------------------------------------------------------


def cpu_shares(places: Places, candidate: str, quick: bool) -> dict[str, float]:
    """Return per cent of the service's CPU samples that fall into the core, by what its code is for."""
    if not shutil.which("perf"):
        raise peers.NotAvailable("perf is not installed")
    directory = places.fresh()
    try:
        way = CANDIDATES[candidate].way(places)
        requests = REQUESTS[candidate] // (10 if quick else 1)
        words = way.command([str(PROGRAMS / "service.py"), str(requests)], PYTHON, directory, places.python)
        # The tracer is for the service, not for perf.
        variables = [f"{name}={value}" for name, value in way.environment(directory).items()]
        record = ["perf", "record", "-q", "-o", str(directory / "perf.data"), "-F", str(FREQUENCY_HZ), "--"]
        subprocess.run([*record, "env", "-i", *variables, *words], check=True, capture_output=True, timeout=LIMIT_S)
        report = ["perf", "report", "--stdio", "-i", str(directory / "perf.data"), "--sort", "dso,symbol"]
        text = subprocess.run(report, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return by_purpose(text, places.core)


def by_purpose(report: str, core: Path) -> dict[str, float]:
    """Add up what a report says of the core's functions."""
    files = source_files(core)
    found: Counter[str] = Counter()
    for share, library, symbol in REPORTED.findall(report):
        if library == core.name:
            found[purpose(files.get(symbol, ""))] += float(share)
    return dict(found)


def source_files(core: Path) -> dict[str, str]:
    """Return the C file of each function of the core, without its ending."""
    symbols = subprocess.run(["nm", "-l", "--defined-only", str(core)], check=True, capture_output=True, text=True).stdout
    return dict(DEFINED.findall(symbols))


def purpose(file: str) -> str:
    """Return what a file is for."""
    return next((name for name, files in PURPOSES.items() if file in files), "the rest")


# -- memory ------------------------------------------------------------------------------------------


def memory_kib(places: Places, quick: bool) -> dict[str, int]:
    """Return how much more the traced service holds, in KiB, by kind of mapping."""
    stock, traced = (by_kind(mappings(places, name, quick)) for name in ("stock", "memleak-normal"))
    return {kind: traced[kind] - stock[kind] for kind in {*stock, *traced} if traced[kind] != stock[kind]}


def mappings(places: Places, candidate: str, quick: bool) -> list[tuple[str, int, int]]:
    """Run the service, and read its mappings when it has answered all requests."""
    directory = places.fresh()
    try:
        way = CANDIDATES[candidate].way(places)
        words = [str(PROGRAMS / "with_smaps.py"), str(PROGRAMS / "service.py"), "300" if quick else "3000"]
        command = way.command(words, PYTHON, directory, places.python)
        sample = measuring.run_process(command, way.environment(directory), LIMIT_S, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if sample.failure:
        raise RuntimeError(sample.failure)
    return resident(sample.output)


def by_kind(found: list[tuple[str, int, int]]) -> Counter[str]:
    """Add up resident KiB by kind of mapping."""
    held: Counter[str] = Counter()
    for name, _, kib in found:
        if name.endswith(".mlrec"):
            held["recording"] += kib
        elif "libmemleak" in name:
            held["the core's data" if name.endswith("(bss)") else "the core itself"] += kib
        elif name.startswith("/"):
            held["files of other libraries, their unwind tables read"] += kib
        else:
            held["heap, stacks, other memory"] += kib
    return held
