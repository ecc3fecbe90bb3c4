"""How answers look on a terminal: numbers, tables, traces and the footer below every printout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ..config import mode_of
from ..layout import MERGED
from ..mixing import summary
from ..records import NOT_SAMPLED
from ..units import size as size

if TYPE_CHECKING:
    from ..query import Snapshot
    from ..rows import DiffRow, Row


def count(number: float | None) -> str:
    """Return a number with thousands separated: 12,345."""
    return "-" if number is None else f"{number:,.0f}"


def plural(number: float, noun: str) -> str:
    """Return a number with its noun: 1 block, 12 blocks."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def interval(row: Row) -> str:
    """Return the 95 % limits of a row's bytes, or why there are none."""
    if row.exact:
        return "exact"
    if row.est_bytes_low is None or row.est_bytes_high is None:
        return "no interval"
    return f"{size(row.est_bytes_low)} … {size(row.est_bytes_high)}"


def age(seconds: float | None) -> str:
    """Return a duration in its largest unit: 90s, 12m, 5h, 3d."""
    if seconds is None:
        return "-"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "m"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds / 86400:.0f}d"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: Iterable[int] = (0,)) -> list[str]:
    """Return the lines of a table with aligned columns; those in *left* are aligned left."""
    cells = [list(header), *(list(row) for row in rows)]
    aligned_left = set(left)
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = []
    for line in cells:
        words = [
            cell.ljust(width) if column in aligned_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        ]
        lines.append("  ".join(words).rstrip())
    return lines


def printable(text: str) -> str:
    """Return *text* with control characters escaped: names come from files nobody vouches for."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def top_table(rows: Sequence[Row], group_by: str | None = None, *, growth: bool = False) -> list[str]:
    """Return the overview of an answer, one line per row; with *growth* also how fast each grows, and its verdict."""
    header = ["#", "est_bytes", "95 % interval", "est_count", "SAMPLED alloc_bytes", "SAMPLED alloc_count", "mod_name"]
    last = group_by or "innermost frame"
    lines = [
        [
            str(number), *([speed(row), row.verdict or "-"] if growth else []), size(row.est_bytes), interval(row),
            count(row.est_count), size(row.alloc_bytes), count(row.alloc_count), row.mod_name or "-",
            printable(name_of(row)),
        ]
        for number, row in enumerate(rows, 1)
    ]  # fmt: skip
    if growth:
        return table(["#", "growth", "verdict", *header[1:], last], lines, left=(2, 8, 9))
    return table([*header, last], lines, left=(6, 7))


def speed(row: Row) -> str:
    """Return how fast a row grows: 1.2 MiB/min."""
    return "-" if row.growth_bytes_per_s is None else f"{size(60 * row.growth_bytes_per_s)}/min"


def holding(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that have live samples: the others hold nothing, as far as was seen."""
    return [row for row in rows if row.samples]


def name_of(row: Row) -> str:
    """Return what a row is called in one line: its group, or its innermost frame.

    With Python frames that is the innermost of those, and the native function it called.
    """
    if row.group is not None:
        return row.group
    python = summary(row.frames)
    if python is not None:
        return python
    return row.trace[0] if row.trace else row.back_trace or "(no stack)"


def labels(row: Row | DiffRow) -> str:
    """Return a row's labels in one line: tenant_id=7, route=/orders."""
    return ", ".join(f"{name}={value}" for name, value in json.loads(row.labels or "{}").items())


def trace(row: Row, *, indent: str = "    ", most: int | None = None) -> list[str]:
    """Return the lines of a row's stack, innermost first."""
    cut = [] if most is None or len(row.trace) <= most else [f"… {len(row.trace) - most} more"]
    return [indent + printable(line) for line in [*row.trace[:most], *cut]]


def stacks(rows: Sequence[Row], *, most: int | None = None) -> list[str]:
    """Return each row with its trace below, as the summary of `memleak run` shows them."""
    lines: list[str] = []
    for number, row in enumerate(rows, 1):
        head = f"#{number}  {size(row.est_bytes)} in {plural(row.est_count, 'block')}"
        under = f"; {printable(labels(row))}" if row.labels else ""
        lines.append(f"{head}  ({interval(row)}; {plural(row.samples, 'sample')}; {row.mod_name or 'several'}{under})")
        lines += trace(row, most=most)
    return lines


def footer(snapshot: Snapshot) -> list[str]:
    """Return what no printout goes without: sampling, samples, what was lost, own cost."""
    facts: dict[str, Any] = snapshot.footer()
    lines = []
    for law in facts["sampling"]:
        words = str(law["mode"])
        if law["mode"] == "full":
            words += ", every allocation"
        elif law["mode"] == "normal":
            words += f", every {law['min_sample_interval']}…{law['max_sample_interval']} allocations"
            words += f" and every {size(law['sample_bytes'])}" if law["sample_bytes"] else ""
        words += _python_law(law)
        words += "" if law["native"] else f"; native {NOT_SAMPLED}"
        if law["recordings"] > 1:
            words += f" ({law['recordings']} recordings)"
        lines.append(f"sampling: {words}")
    lines += [f"focus: {one['words']}" for one in facts["foci"]]
    lines.append(
        f"samples: {count(facts['samples'])} taken, {count(facts['live_samples'])} live, {count(facts['rows'])} stacks;"
        f" {'every number exact' if facts['exact'] else 'est_*: 95 % intervals'}"
    )
    dropped = ", ".join(f"{name} {count(number)}" for name, number in facts["dropped"].items())
    lines.append(f"dropped: {dropped or 'nothing'}" + (f"; torn entries {facts['torn']}" if facts["torn"] else ""))
    if facts["counters"].get(MERGED):
        merged = plural(facts["counters"][MERGED], "sample")
        lines.append(f"room: {merged} merged into others, which stand for them: a larger MEMLEAK_ROOM keeps more apart")
    lines.append(f"coverage: {facts['coverage']}")
    for words, number in facts["python"].items():
        lines.append(f"python: {words}" + (f" ({number} recordings)" if number > 1 else ""))
    lines += [*_pools(facts["pools"]), *mismatches(facts["mismatches"])]
    cost = facts["cost"]
    share = cost.get("share")
    cpu = f"{cost['cpu_ns'] / 1e6:.1f} ms of CPU"
    bounds = [
        one["words"] + (f" ({one['recordings']} recordings)" if one["recordings"] > 1 else "") for one in facts["governors"]
    ]
    of_a_cpu = f", {100 * share:.3f} % of a CPU while recording" if share is not None else ""
    lines.append("; ".join([f"own cost: {cpu}{of_a_cpu}", *bounds]))
    notes = [*facts["incomplete"], *facts["problems"]]
    return [printable(line) for line in [*lines, *(f"note: {note}" for note in notes)]]


def _pools(found: dict[str, int]) -> list[str]:
    """Say what of an answer is in no total; nothing without pools."""
    if not found["number"]:
        return []
    live = plural(found["live_samples"], "live sample")
    return [f"pools: {found['number']}, {live}, in no total: they hand out memory that is counted (memleak pools)"]


def mismatches(found: dict[str, int]) -> list[str]:
    """Say how many blocks were freed another way than they were allocated; nothing when none was."""
    if not found["number"] and not found["undecided"]:
        return []
    undecided = f"{found['undecided']} undecided" if found["undecided"] else ""
    words = ", ".join(filter(None, [f"{found['number']} certain" if found["number"] else "", undecided]))
    return [f"mismatches: {words}: blocks freed another way than they were allocated (memleak mismatches)"]


def _python_law(law: dict[str, Any]) -> str:
    """Say how Python's small objects are sampled; nothing when that goes without saying."""
    pair = law["python_min_sample_interval"], law["python_max_sample_interval"]
    if None in pair or pair == (law["min_sample_interval"], law["max_sample_interval"]):
        return ""
    ways = {"off": "not sampled", "full": "each", "normal": f"every {pair[0]}…{pair[1]}"}
    return f"; Python's small objects: {ways[mode_of(*pair)]}"


def write(lines: Iterable[str], stream: TextIO) -> None:
    """Write lines; characters the stream cannot encode are replaced."""
    text = "".join(line + "\n" for line in lines)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
