"""Results as text for a terminal: a line for each candidate, with the noise beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from .matrix import NOISE, Cell

HEAD = ("workload", "candidate", "CPU, ratio", "noise", "wall, ratio", "peak memory", "ns an operation")
WIDTHS = (16, 22, 22, 15, 22, 22, 0)


def head() -> str:
    """Return the line above the table."""
    return line(HEAD)


def line(cells: Iterable[str]) -> str:
    """Return cells in columns."""
    return " ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS)).rstrip()


def row(cell: Cell, noise: Optional[Cell]) -> str:
    """Return the line of a cell; *noise* is the cell of its baseline against itself."""
    name = f"({cell.baseline} twice)" if cell.candidate == NOISE else cell.candidate
    if cell.failure:
        return line((cell.workload, name, cell.failure))
    inner = cell.differences.get("inner_ns")
    return line(
        (
            cell.workload, name, ratio(cell, "cpu_s"), noise_words(noise, "cpu_s"), ratio(cell, "wall_s"),
            ratio(cell, "peak_kib"), f"{inner.median:+.2f} [{inner.low:+.2f} … {inner.high:+.2f}]" if inner else "",
        )
    )  # fmt: skip


def ratio(cell: Cell, measure: str) -> str:
    """Return the ratio with its quartiles."""
    return cell.ratios[measure].words() if measure in cell.ratios else "not measured"


def noise_words(noise: Optional[Cell], measure: str) -> str:
    """Return the quartiles of a baseline against itself."""
    if noise is None or measure not in noise.ratios:
        return "not measured"
    found = noise.ratios[measure]
    return f"{found.low:.3f} … {found.high:.3f}"


def noises(cells: Iterable[Cell]) -> dict[tuple[str, str], Cell]:
    """Return the cells of baselines against themselves, by workload and baseline."""
    return {(cell.workload, cell.baseline): cell for cell in cells if cell.candidate == NOISE}
