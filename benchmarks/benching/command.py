"""What ./bench does once it runs where the package is installed."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import goals, machine, matrix, peers, table
from .candidates import COMPARED
from .parts import PARTS
from .places import PARTIAL, RESULTS, WHOLE, Places, memory_directory, places
from .workloads import WORKLOADS

FORMAT = 1


def main(usage: str) -> int:
    """Measure, or make the page."""
    options = arguments(usage)
    if options.page is not None:
        from . import page

        page.write(options.page)
        return 0
    whole = not (options.workload or options.candidate or options.quick)
    target = options.json or (WHOLE if whole else PARTIAL)
    if needs_others(options):
        peers.install_system_packages(say)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    scratch = Path(tempfile.mkdtemp(prefix="memleak-bench-"))
    recordings = Path(tempfile.mkdtemp(prefix="memleak-bench-", dir=memory_directory()))
    try:
        result = measure(options, places(scratch, recordings), target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(recordings, ignore_errors=True)
    result["complete"] = whole
    save(result, target)
    if options.add:
        save(with_more(json.loads(WHOLE.read_text()), result), WHOLE)
        target = WHOLE
    for line in goals.lines(goals.goals(result)) if whole or options.quick else ():
        print(line)
    say(f"kept in {target}")
    return 0


def measure(options: argparse.Namespace, where: Places, target: Path) -> dict[str, Any]:
    """Measure what is asked for, print it, and keep after each step what there is so far."""
    result: dict[str, Any] = {
        "format": FORMAT, "machine": machine.facts(), "rounds": options.rounds, "quick": options.quick,
        "complete": False, "cells": [], "parts": {},
    }  # fmt: skip
    facts = result["machine"]
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(table.head(), flush=True)
    noise: dict[tuple[str, str], matrix.Cell] = {}
    began = time.monotonic()
    for name in options.workload or [*WORKLOADS, *PARTS]:
        if name in WORKLOADS:
            for cell in matrix.measure(
                WORKLOADS[name], options.candidate or list(COMPARED), where, options.rounds, options.quick
            ):
                noise.update(table.noises([cell]))
                print(table.row(cell, noise.get((cell.workload, cell.baseline))), flush=True)
                result["cells"].append(cell.as_json())
                save(result, target)
        else:
            part = result["parts"][name] = measured_part(name, where, options.rounds, options.quick)
            for words in part["lines"]:
                print(table.line((name, words)), flush=True)
        result["minutes"] = round((time.monotonic() - began) / 60, 1)
        save(result, target)
    return result


def with_more(held: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return a result in which what was measured once more, or for the first time, stands for what there was."""

    def key(cell: dict[str, Any]) -> tuple[str, str, str]:
        return cell["workload"], cell["candidate"], cell["baseline"]

    cells = {**{key(cell): cell for cell in held["cells"]}, **{key(cell): cell for cell in more["cells"]}}
    names = list(dict.fromkeys([*(cell["workload"] for cell in more["cells"]), *more["parts"]]))
    note = {"names": names, "machine": more["machine"], "rounds": more["rounds"], "quick": more["quick"]}
    return {
        **held, "cells": list(cells.values()), "parts": {**held["parts"], **more["parts"]},
        "added": [*held.get("added", ()), note],
    }  # fmt: skip


def needs_others(options: argparse.Namespace) -> bool:
    """Tell whether anything that is asked for is not ours."""
    ours = {name for name in COMPARED if name.startswith("memleak")}
    asked = set(options.workload or [*WORKLOADS, *PARTS])
    return bool(set(options.candidate or COMPARED) - ours or asked & {"redis", *PARTS})


def measured_part(name: str, where: Places, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure one part; that it cannot be measured here is a result, too."""
    try:
        return PARTS[name](where, rounds, quick)
    except (AssertionError, LookupError, OSError, RuntimeError, ValueError, peers.NotAvailable) as error:
        reason = f"{type(error).__name__}: {str(error)[-200:]}"
    except subprocess.CalledProcessError as error:
        reason = str(error)
    return {"lines": [f"failed: {reason}"], "failure": reason}


def save(result: dict[str, Any], target: Path) -> None:
    """Keep the result."""
    target.parent.mkdir(parents=True, exist_ok=True)
    half_done = target.with_name(f"{target.name}.new")
    half_done.write_text(json.dumps(result, indent=1) + "\n")
    half_done.replace(target)


def arguments(usage: str) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="./bench", description=usage.partition("\n")[0])
    names = [*WORKLOADS, *PARTS]
    parser.add_argument("--workload", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)} (all)")
    parser.add_argument(
        "--candidate", nargs="+", choices=COMPARED, metavar="NAME", help=f"of {', '.join(COMPARED)} (all)"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of A B B A, two ratios each (3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: to see that it runs, no figures")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"default: {RESULTS.name}/{WHOLE.name}, or {PARTIAL.name}"
    )
    parser.add_argument("--add", action="store_true", help=f"put what is measured into {RESULTS.name}/{WHOLE.name}")
    parser.add_argument("--page", type=Path, nargs="?", const=WHOLE, metavar="FILE", help="make docs/performance.md")
    options = parser.parse_args()
    if options.add and (options.json or not options.workload):
        parser.error("--add puts what --workload names into the whole result; it goes without --json")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"./bench: {text}", file=sys.stderr, flush=True)
