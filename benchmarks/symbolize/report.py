"""docs/symbolization-report.md from a result."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .agreement import KINDS

PAGE = Path(__file__).resolve().parents[2] / "docs/symbolization-report.md"


def write(held: dict[str, Any]) -> None:
    """Make the page anew."""
    PAGE.write_text("\n".join(page(held)) + "\n")


def page(held: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the page."""
    facts = held["machine"]
    yield "# Symbolization: how right and how fast"
    yield ""
    yield "Made by `python benchmarks/symbolize --page` from `benchmarks/results/symbolize.json`; not written by hand."
    yield ""
    yield f"Measured on {facts['when']}, commit {facts['commit']}: {facts['cpu']}, {facts['cores']} cores,"
    yield f"Linux {facts['kernel']}, Python {facts['python']}; " + "; ".join(held["tools"].values()) + "."
    yield ""
    yield from agreement(held)
    yield from speed(held)
    yield from goals(held)


def agreement(held: dict[str, Any]) -> Iterator[str]:
    """Yield the tables of agreement, and what the differences are."""
    yield "## Agreement"
    yield ""
    yield from textwrap.wrap(
        f"{held['addresses']:,} addresses of code of each program, at random. Against llvm-symbolizer, of the "
        "addresses that it has a line of: the innermost line, the number of frames, all files and lines, the names of "
        "all inlined calls. The text of GNU addr2line -afiC: the share of addresses whose whole text is the same, "
        "and the others by the kinds below; then the same with --gnu-compat.",
        120,
    )
    yield ""
    yield "| program | line | depth | chain | inlined names | GNU, same text | but | --gnu-compat | but |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for one in held["agreement"]:
        yield row(one)
    yield ""
    shared = [one for one in held["agreement"] if "elfutils" in one]
    if shared:
        yield "What dwz shares between files, against eu-addr2line:"
        yield ""
        yield "| program | chain | inlined names |"
        yield "|---|---|---|"
        for one in shared:
            counts = one["elfutils"]
            yield f"| {one['name']} | {share(counts, 'chain')} | {share(counts, 'inlined names')} |"
        yield ""
    if held["left_out"]:
        yield "Left out: " + "; ".join(f"{name} ({reason})" for name, reason in held["left_out"].items()) + "."
        yield ""
    yield "Kinds of differences to GNU addr2line:"
    yield ""
    seen: dict[str, tuple[str, str]] = {}
    for one in held["agreement"]:
        for kind, example in one.get("gnu", {}).get("examples", {}).items():
            seen.setdefault(kind, (one["name"], example))
    for kind, words in KINDS.items():
        if kind in seen:
            name, example = seen[kind]
            yield f"* **{kind}**: {words}. In {name}: `{example.replace('`', '')}`"
    yield ""


def row(one: dict[str, Any]) -> str:
    """Return the line of a program."""
    counts = one.get("llvm", {})
    cells = [share(counts, what) for what in ("line", "depth", "chain", "inlined names")]
    for mode in ("gnu", "gnu, compatible"):
        kinds = dict(one.get(mode, {}).get("kinds", {}))
        total, same = sum(kinds.values()), kinds.pop("same", 0)
        others = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
        cells += [share({"compared": total, "same": same}, "same"), others]
    return f"| {one['name']} | " + " | ".join(cells) + " |"


def share(counts: dict[str, Any], what: str) -> str:
    """Return a percentage; 100 only if it is all of them."""
    compared = counts.get("compared", 0)
    if not compared:
        return "–"
    if counts.get(what, 0) == compared:
        return "100 %"
    return f"{min(99.99, 100 * counts.get(what, 0) / compared):.2f} %"


def speed(held: dict[str, Any]) -> Iterator[str]:
    """Yield the tables of time and memory."""
    yield "## Speed"
    yield ""
    yield from textwrap.wrap(
        f"Whole processes on one core, page cache warm, medians of {held['rounds']} rounds in which the tools "
        "alternate. Addresses are drawn at random from code that has lines: they lie all over the file, which is the "
        "worst case.",
        120,
    )
    yield ""
    for one in held["speed"]:
        yield f"### {one['name']}, {one['mib']} MB"
        yield ""
        yield "| addresses | tool | seconds | ratio to addr2line | peak memory, MB |"
        yield "|---|---|---|---|---|"
        for count, tools in one["cold"].items():
            base = tools.get("addr2line", {}).get("seconds")
            for name, found in tools.items():
                ratio = f"{base / found['seconds']:.1f} ×" if base else "–"
                yield f"| {int(count):,} | {name} | {found['seconds']:.3f} | {ratio} | {found['peak_mib']:.0f} |"
        yield ""
        warm = one["warm_us"]
        reader, kept = warm["reader"], warm["answers kept"]
        yield f"Asked again in one process: {reader:.1f} µs an address by the reader, {kept:.1f} µs from answers kept."
        yield ""


WHY = """Of the 0.16 s of 160 addresses some 0.08 are the reader's: 66 of 133 compile units are touched, 130 MB of
entries walked from sibling to sibling and 8 MB of line programs run, each once, on one core. Half of that is waiting for
memory. Starting Python, loading and the child process are 0.05, demangling by c++filt 0.01. For 10,000 addresses 0.3 s are
the reader's; the rest is 40,000 frames that pass from the child to its parent and become text, in Python. The same
answers out of the cache pass neither."""


def goals(held: dict[str, Any]) -> Iterator[str]:
    """Yield what was promised of the large binary, and what came of it."""
    big = next((one for one in held["speed"] if one["name"] == "big"), None)
    if big is None:
        return
    cold = big["cold"]

    def times(count: str, other: str, ours: str = "memleak") -> float:
        return float(cold[count][other]["seconds"] / cold[count][ours]["seconds"])

    table = [
        ("160 addresses, addr2line's time", times("160", "addr2line"), 8, "×, must"),
        ("160 addresses, llvm-symbolizer's time", times("160", "llvm-symbolizer"), 3, "×, must"),
        ("160 addresses, addr2line's time", times("160", "addr2line"), 25, "×"),
        ("160 addresses, llvm-symbolizer's time", times("160", "llvm-symbolizer"), 10, "×"),
        ("160 addresses out of the cache, addr2line's time", times("160", "addr2line", "memleak, cached"), 60, "×"),
        ("10,000 addresses, addr2line's time", times("10000", "addr2line"), 25, "×"),
        ("10,000 addresses out of the cache, addr2line's time", times("10000", "addr2line", "memleak, cached"), 25, "×"),
    ]  # fmt: skip
    yield "## What was promised of the large binary"
    yield ""
    yield "| what | promised | measured | |"
    yield "|---|---|---|---|"
    for what, found, promised, unit in table:
        kept = "kept" if found >= promised else "**not kept**"
        yield f"| {what} | ≥ {promised} {unit} | {found:.1f} × | {kept} |"
    most = [
        ("peak memory at 160 addresses", cold["160"]["memleak"]["peak_mib"], 300, "MB"),
        ("asked again in one process, by the reader", big["warm_us"]["reader"], 10, "µs an address"),
        ("asked again in one process, answers kept", big["warm_us"]["answers kept"], 10, "µs an address"),
    ]
    for what, found, promised, unit in most:
        kept = "kept" if found <= promised else "**not kept**"
        yield f"| {what} | ≤ {promised} {unit} | {found:.1f} | {kept} |"
    yield ""
    yield from textwrap.wrap(" ".join(WHY.split()), 120)
    yield ""
