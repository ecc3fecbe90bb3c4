"""Time and memory of whole processes, and of one that asks again and again."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

from . import blocks
from .agreement import text_addresses
from .programs import Program

COUNTS = (1, 16, 160, 10_000)
DRAWN = 200_000  # addresses of code, of which those with lines are asked
LAUNCH = Path(__file__).resolve().parent / "launch.py"


def covered(program: Program, count: int) -> list[int]:
    """Return addresses, at random, that have a line."""
    from memleak.symbolize.engine import DwarfEngine

    engine = DwarfEngine()
    drawn = text_addresses(program, DRAWN)
    found = [address for address, chain in zip(drawn, engine.lookup(str(program.path), drawn)) if chain]
    engine.close()
    return random.Random(2).sample(found, min(count, len(found)))


def once(core: int, words: Sequence[str], addresses: Sequence[int], cache: Optional[str] = None) -> dict[str, float]:
    """Run a tool once.

    Raises:
        RuntimeError: it failed.
    """
    asked = "".join(f"{address:#x}\n" for address in addresses)
    environment = {**os.environ, **({"MEMLEAK_SYMBOL_CACHE": cache} if cache else {})}
    command = [sys.executable, "-IS", str(LAUNCH), str(core), *words]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, env=environment, check=True)
    result = json.loads(done.stdout)
    if result["status"]:
        raise RuntimeError(f"{words[0]} ended with {result['status']}")
    return result


def measure(program: Program, rounds: int, core: int, counts: Sequence[int] = COUNTS) -> dict[str, Any]:
    """Time each tool for each number of addresses, one after the other in each round."""
    addresses = covered(program, max(counts))
    tools: dict[str, Optional[list[str]]] = {
        "addr2line": blocks.gnu(program.path), "llvm-symbolizer": blocks.llvm(program.path),
        "memleak": blocks.ours(program.path),
    }  # fmt: skip
    result: dict[str, Any] = {"name": program.name, "mib": program.path.stat().st_size >> 20, "cold": {}}
    with tempfile.TemporaryDirectory(prefix="memleak-bench-") as cache:
        if blocks.has_verb():
            tools["memleak, cached"] = blocks.ours(program.path, cached=True)
        for count in counts:
            asked = addresses[:count]
            runs: dict[str, list[dict[str, float]]] = {name: [] for name, words in tools.items() if words}
            if blocks.has_verb():
                once(core, tools["memleak, cached"] or [], asked, cache)  # it learns
            for _ in range(rounds):
                for name in runs:
                    runs[name].append(once(core, tools[name] or [], asked, cache if "cached" in name else None))
            result["cold"][str(count)] = {name: summary(found) for name, found in runs.items()}
    result["warm_us"] = warm(program, addresses)
    return result


def summary(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return medians, and the fastest and the slowest."""
    seconds = [run["seconds"] for run in runs]
    return {
        "seconds": statistics.median(seconds), "least": min(seconds), "most": max(seconds),
        "peak_mib": statistics.median(run["peak_mib"] for run in runs),
    }  # fmt: skip


def warm(program: Program, addresses: Sequence[int]) -> dict[str, float]:
    """Return microseconds an address of a process that has been asked the same before."""
    from memleak.symbolize import Symbolizer
    from memleak.symbolize.engine import DwarfEngine

    engine = DwarfEngine()
    with Symbolizer(engine="memleak") as symbolizer:
        requests = [(str(program.path), None, address, True) for address in addresses]
        return {
            "reader": _second(lambda: engine.lookup(str(program.path), addresses)) / len(addresses),
            "answers kept": _second(lambda: symbolizer.resolve(requests)) / len(addresses),
        }


def _second(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6
