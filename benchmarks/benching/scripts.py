"""Benchmarks that are scripts of their own, as parts of the suite: the start of Python, and Debian's programs."""

from __future__ import annotations

import sys
from typing import Any

from .places import BENCHMARKS, Places

sys.path[:0] = [str(BENCHMARKS)]


def start(_: Places, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure what memleak.pth costs the start of every Python."""
    import pth_cost

    found = pth_cost.measure(20 if quick else 80 * rounds)
    lines = []
    for name, row in found["rows"].items():
        over = row["over_without"]
        words = f"{over['median']:+.3f} ms [{over['low']:+.3f} … {over['high']:+.3f}]"
        lines.append(f"{name}: {row['ms_median']:.2f} ms, {words} over without")
    lines.append(f"the line of memleak.pth: {found['line_us']:.1f} µs; an empty file {found['empty_file_us']:.1f} µs")
    return {"lines": lines, "rows": found["rows"], "line_us": found["line_us"], "empty_us": found["empty_file_us"]}


def programs(_: Places, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure how fast Debian's programs are with the core preloaded (1 is as fast as without, less is slower), and what a start costs."""
    import real_programs

    lines, rows = [], {}
    for name, program in real_programs.installed().items():
        try:
            scale = 1 if quick else real_programs.scale_for(program, 2.0)
            row = real_programs.measure(program, 2 if quick else 2 * rounds, scale, "normal")
        except RuntimeError as failure:
            lines.append(f"{name}: {failure}")
            continue
        rows[name] = row
        words = f"speed {row['rate']:.3f} [{row['low']:.3f} … {row['high']:.3f}]"
        lines.append(f"{name}: {words}; noise {row['noise_low']:.3f} … {row['noise_high']:.3f}; {row['seconds']:.2f} s")
    lines.sort(key=lambda line: rows.get(line.partition(":")[0], {"rate": 0.0})["rate"])
    start = real_programs.start_cost(2 if quick else 8 * rounds, "normal")
    lines.append(f"a start of `true`: {start['without_ms']:.2f} ms without, {start['with_ms']:.2f} ms with")
    return {"lines": lines, "rows": rows, "start": start}
