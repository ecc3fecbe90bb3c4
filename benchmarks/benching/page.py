"""docs/performance.md from a result: what stands between its markers is made here, the rest is written by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from . import plot
from .candidates import CANDIDATES, COMPARED
from .figures import Spread
from .goals import Result, goals
from .matrix import NOISE, Cell
from .places import ROOT
from .workloads import WORKLOADS

PAGE = ROOT / "docs/performance.md"
PLOTS = ROOT / "docs/performance"
VERDICTS = {True: "met", False: "**not met**", None: "not measured"}


def write(source: Path) -> None:
    """Make the page and its plots from a result file."""
    held = json.loads(source.read_text())
    PLOTS.mkdir(exist_ok=True)
    for old in PLOTS.glob("*.svg"):
        old.unlink()
    for name, text in plots(held).items():
        (PLOTS / f"{name}.svg").write_text(text)
    PAGE.write_text(made(PAGE.read_text(), held))


def made(text: str, held: dict[str, Any]) -> str:
    """Return the page with its sections replaced.

    Raises:
        ValueError: a section has no markers, "<!-- NAME: made by ./bench --page -->" and "<!-- NAME: end -->".
    """
    for name, section in SECTIONS.items():
        pattern = rf"(<!-- {name}: made by \./bench --page -->\n).*?(<!-- {name}: end -->)"
        lines = "\n".join(section(held))
        text, count = re.subn(
            pattern, lambda match, lines=lines: f"{match[1]}\n{lines}\n\n{match[2]}", text, flags=re.DOTALL
        )
        if count != 1:
            raise ValueError(f"the page has {count} sections named {name}")
    return text


def machine(held: dict[str, Any]) -> Iterator[str]:
    """Yield where and when."""
    facts = held["machine"]
    load = " ".join(f"{value:.2f}" for value in facts["load_at_start"])
    yield f"Measured on {facts['when']}, commit {facts['commit']}, with {held['rounds']} rounds of A B B A"
    virtual = ", a virtual machine" if facts["hypervisor"] else ""
    yield f"({held.get('minutes', '?')} minutes): {facts['cpu']}, {facts['cores']} cores{virtual},"
    yield f"{facts['memory_mib']:,} MiB; Linux {facts['kernel']}, glibc {facts['glibc']}, Python {facts['python']};"
    yield f"load at the start {load}."
    for more in held.get("added", ()):
        facts = more["machine"]
        yield ""
        yield f"Measured on {facts['when']}, commit {facts['commit']}, with {more['rounds']} rounds: {', '.join(more['names'])}."
    if held["quick"] or not held["complete"] or any(more["quick"] for more in held.get("added", ())):
        yield ""
        yield "**A partial or quick run: these are no figures to cite.**"


def goal_table(held: dict[str, Any]) -> Iterator[str]:
    """Yield what was promised: not met first."""
    found = sorted(goals(held), key=lambda goal: (goal.met is not False, goal.met is not None))
    yield "| goal | wanted | measured | |"
    yield "|---|---|---|---|"
    for goal in found:
        yield f"| {goal.what} | {goal.wanted} | {goal.figure} | {VERDICTS[goal.met]} |"


def tables(held: dict[str, Any]) -> Iterator[str]:
    """Yield a table for each workload, that in which the tracer's defaults cost most first."""
    result = Result(held)
    measured = list(dict.fromkeys(cell.workload for cell in result.cells.values()))
    for name in sorted(measured, key=lambda name: -cost(result, name)):
        yield f"### {name}: {WORKLOADS[name].what}"
        yield ""
        if f"{name}" in plots_of(result):
            yield f"![CPU of {name}](performance/{name}.svg)"
            yield ""
        yield "| candidate | CPU, ratio | noise | wall, ratio | peak memory, ratio | ns an operation |"
        yield "|---|---|---|---|---|---|"
        for cell in by_cost(result, name):
            yield row(cell, result.noise(cell))
        yield ""


def cost(result: Result, workload: str) -> float:
    """Return what the tracer's defaults cost on a workload; 0 where that is not known."""
    try:
        return result.cell(workload, "memleak-normal").ratios["cpu_s"].median
    except KeyError:
        return 0.0


def by_cost(result: Result, workload: str) -> list[Cell]:
    """Return the candidates' cells, the most CPU first, those without a figure at the end."""
    cells = [cell for cell in result.cells.values() if cell.workload == workload and cell.candidate != NOISE]
    return sorted(cells, key=lambda cell: -cell.ratios["cpu_s"].median if "cpu_s" in cell.ratios else 0.0)


def row(cell: Cell, noise: Optional[Cell]) -> str:
    """Return the line of a cell."""
    name = cell.candidate if cell.baseline == "stock" else f"{cell.candidate} (over {cell.baseline})"
    if cell.failure:
        return f"| {name} | {cell.failure.replace('|', '/')} | | | | |"
    words = [cell.ratios[measure].words() for measure in ("cpu_s", "wall_s", "peak_kib")]
    words[2] += f" ({cell.differences['peak_kib'].median / 1024:+.1f} MiB)"
    beside = (
        f"{noise.ratios['cpu_s'].low:.3f} … {noise.ratios['cpu_s'].high:.3f}"
        if noise and noise.ratios
        else "not measured"
    )
    inner = cell.differences.get("inner_ns")
    added = f"{inner.median:+.2f} [{inner.low:+.2f} … {inner.high:+.2f}]" if inner else ""
    if "inner_ns" in cell.ratios:
        added += f", {cell.ratios['inner_ns'].words()} ×"
    return f"| {name} | {words[0]} | {beside} | {words[1]} | {words[2]} | {added} |"


def parts(held: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the parts."""
    for name, part in held["parts"].items():
        yield f"**{name}**"
        yield ""
        yield from (f"* {line}" for line in part["lines"])
        yield ""


def candidates(_: dict[str, Any]) -> Iterator[str]:
    """Yield what each candidate is."""
    yield "| candidate | what it is | compared with |"
    yield "|---|---|---|"
    for name in COMPARED:
        candidate = CANDIDATES[name]
        base = CANDIDATES[candidate.baseline]
        yield f"| {name} | {candidate.what} | {base.name}: {base.what} |"


def plots(held: dict[str, Any]) -> dict[str, str]:
    """Return the SVG of each workload by its name."""
    return plots_of(Result(held))


def plots_of(result: Result) -> dict[str, str]:
    """Return the SVG of each workload of which something was measured."""
    found = {}
    for name in dict.fromkeys(cell.workload for cell in result.cells.values()):
        bars = [bar(cell) for cell in by_cost(result, name)]
        noise = [
            cell.ratios["cpu_s"]
            for cell in result.cells.values()
            if cell.workload == name and cell.candidate == NOISE and cell.ratios
        ]
        if bars and noise:
            band = (min(one.low for one in noise), max(one.high for one in noise))
            found[name] = plot.chart(f"{name}: CPU over the same program without it, logarithmic", bars, band)
    return found


def bar(cell: Cell) -> plot.Bar:
    """Return the bar of a cell."""
    low, median, high, _ = cell.ratios.get("cpu_s", Spread(1, 1, 1, 0))
    return plot.Bar(cell.candidate, low, median, high, cell.candidate.startswith("memleak"), cell.failure)


SECTIONS = {"machine": machine, "goals": goal_table, "parts": parts, "tables": tables, "candidates": candidates}
