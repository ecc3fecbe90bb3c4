"""Instructions of a malloc + free pair, counted by callgrind: no noise, so small differences can be told."""

from __future__ import annotations

import functools
import re
import shutil
from typing import Any

from . import measuring, peers
from .building import compiled
from .candidates import CANDIDATES
from .places import Places
from .workloads import LIMIT_S

COUNTED = (
    "stock", "memleak-off", "memleak-normal", "jemalloc", "jemalloc-prof", "jemalloc-prof-dense",
    "tcmalloc", "tcmalloc-sample", "tcmalloc-sample-dense",
)  # fmt: skip
PATTERNS = ("pair", "deep")


def count(places: Places, _: int, quick: bool) -> dict[str, Any]:
    """Count for each candidate what a pair takes, hot and 30 frames down, and what that is over its baseline."""
    length = 100_000 if quick else 1_000_000
    rows: dict[str, dict[str, Any]] = {}
    for pattern in PATTERNS:
        per_pair = functools.cache(lambda name, pattern=pattern: instructions(places, name, pattern, length))
        for name in COUNTED:
            try:
                counted, base = per_pair(name), per_pair(CANDIDATES[name].baseline)
            except (peers.NotAvailable, RuntimeError) as reason:
                rows.setdefault(name, {})[pattern] = {"failure": str(reason)}
                continue
            rows.setdefault(name, {})[pattern] = {"instructions": counted, "over": counted - base}
            if name.startswith("tcmalloc-sample") and counted - base < 1:
                rows[name][pattern] = {"failure": f"{pattern}: takes no samples under valgrind"}
    lines = []
    for name, row in rows.items():
        words = (
            one["failure"]
            if "failure" in one
            else f"{pattern} {one['instructions']:.1f} ({one['over']:+.1f} over {CANDIDATES[name].baseline})"
            for pattern, one in row.items()
        )
        lines.append(f"{name}: {', '.join(words)}")
    return {"lines": lines, "rows": rows, "pairs": length}


def instructions(places: Places, name: str, pattern: str, pairs: int) -> float:
    """Return instructions a pair: the difference between two lengths, so start-up cancels out."""
    if shutil.which("valgrind") is None:
        raise peers.NotAvailable("valgrind is not installed")
    counts = []
    for length in (10_000, 10_000 + pairs):
        directory = places.fresh()
        program = [str(compiled("allocations.c")), pattern, str(length)]
        command = [
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--log-file=DIRECTORY/counted",
            *program,
        ]
        command = [word.replace("DIRECTORY", str(directory)) for word in command]
        # Under valgrind the traced program is exec'd by the launcher that LD_PRELOAD reaches first.
        environment = CANDIDATES[name].way(places).environment(directory, MEMLEAK_FOLLOW="1", MEMLEAK_SEED="1")
        sample = measuring.run_process(command, environment, LIMIT_S, directory)
        found = re.search(r"Collected : (\d+)", (directory / "counted").read_text())
        shutil.rmtree(directory, ignore_errors=True)
        if sample.failure or found is None:
            raise RuntimeError(f"under valgrind: {sample.failure or 'no count'}")
        counts.append(int(found.group(1)))
    return (counts[1] - counts[0]) / pairs
