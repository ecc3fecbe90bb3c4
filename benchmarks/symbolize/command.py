"""What `python benchmarks/symbolize` does."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benching import machine

from . import agreement, programs, report, speed

RESULT = Path(__file__).resolve().parent.parent / "results/symbolize.json"
PARTS = ("agreement", "speed")


def main(usage: str) -> int:
    """Measure, or make the page."""
    options = arguments(usage)
    if options.page is not None:
        report.write(json.loads(options.page.read_text()))
        return 0
    result: dict[str, Any] = {
        "machine": machine.facts(), "tools": versions(), "addresses": options.addresses, "rounds": options.rounds,
        "agreement": [], "left_out": {}, "speed": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="memleak-symbolize-") as home:
        big = programs.Program("big", options.big, options.big, options.big.parent, "big") if options.big else None
        large = [program for program in (programs.libpython(), big) if program]
        if "agreement" in options.part:
            measure_agreement(result, Path(home), large, options.addresses)
        if "speed" in options.part:
            for program in large:
                say(f"speed of {program.name}")
                result["speed"].append(speed.measure(program, options.rounds, options.core))
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    say(f"kept in {options.json}")
    return 0


def measure_agreement(result: dict[str, Any], home: Path, large: list[programs.Program], addresses: int) -> None:
    """Compare the tools on every program."""
    for name, made in [*programs.small(home), *((program.name, program) for program in large)]:
        if isinstance(made, str):
            result["left_out"][name] = made
            continue
        say(f"agreement on {name}")
        drawn = agreement.text_addresses(made, addresses)
        result["agreement"].append(without_paths(agreement.measure(made, drawn), home))
        if name == "big":  # most of its code has no debug information
            with_lines = made._replace(name="big, code with lines")
            drawn = sorted(speed.covered(made, addresses))
            result["agreement"].append(without_paths(agreement.measure(with_lines, drawn), home))


def without_paths(found: dict[str, Any], home: Path) -> dict[str, Any]:
    """Return a result in which no directory of this machine is named."""
    root = Path(__file__).resolve().parents[2]
    text = json.dumps(found)
    for path, word in ((str(home), "BUILD"), (str(root), "ROOT"), (os.path.expanduser("~"), "HOME")):
        text = text.replace(path, word)
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def versions() -> dict[str, str]:
    """Return the first line that each tool says of its version."""
    found = {}
    for name in ("addr2line", "llvm-symbolizer", "eu-addr2line", "gcc", "clang", "dwz"):
        try:
            ran = subprocess.run([name, "--version"], capture_output=True, text=True)
        except OSError:
            continue
        lines = [line.strip() for line in ran.stdout.splitlines() if any(sign.isdigit() for sign in line)]
        if lines:
            found[name] = lines[0]
    return found


def arguments(usage: str) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/symbolize", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--big", type=Path, metavar="PATH", help="a large binary with debug information")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="default: both")
    parser.add_argument("--addresses", type=int, default=5000, metavar="N", help="of each program (5000)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each tool (5)")
    parser.add_argument(
        "--core", type=int, default=max(os.sched_getaffinity(0)), metavar="N", help="to measure on (the last)"
    )
    parser.add_argument("--json", type=Path, default=RESULT, metavar="FILE", help=f"default: {RESULT.name}")
    parser.add_argument("--page", type=Path, nargs="?", const=RESULT, metavar="FILE", help="make the report")
    return parser.parse_args()


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"symbolize: {text}", file=sys.stderr, flush=True)
