"""How many answers are those of the other tools, and of which kind each difference to GNU addr2line is."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Optional

from . import blocks
from .blocks import Frame
from .programs import Program

# The numbers are those of the report's list.
KINDS = {
    "same": "the same text",
    "1": "addr2line loses inlined calls of clang's DWARF 5",
    "2": "addr2line does not open split files",
    "3": "addr2line does not follow what dwz shares between files",
    "4": "a function without a linkage name: the inlined one has its own name, not the outer one's symbol",
    "5": "a clone that the compiler split off: .cold, .part, .isra",
    "6": "a line without a function",
    "7": "no debug information: a file's name from the symbol table",
    "8": "addr2line has the wrong file",
    "9": "names of Rust",
    "10": "addr2line does not read DWARF 5 with 64-bit offsets",
    "11": "addr2line repeats the innermost frame's discriminator at its callers, and does not know theirs",
    "other": "not explained",
}
_CLONE = re.compile(r"(?:\.(?:isra|part|constprop|cold|lto_priv|llvm)(?:\.\d+)*)+(?=$| )| \[clone [^]]*\]")

_PARAMETERS = re.compile(r"(?<!operator)\([^()]*\)(?: const)?\Z")


def text_addresses(program: Program, count: int) -> list[int]:
    """Return addresses of code, at random but the same in each run."""
    from memleak.symbolize.elf import open_elf

    with open_elf(str(program.path)) as image:
        section = image.section(".text")
    if section is None:
        raise LookupError(f"{program.name} has no code")
    every = range(section.address, section.address + section.size)
    return sorted(random.Random(1).sample(every, min(count, len(every))))


def measure(program: Program, addresses: Sequence[int]) -> dict[str, Any]:
    """Compare all tools on one program."""
    ours = answers(program, addresses)
    result: dict[str, Any] = {"name": program.name, "addresses": len(addresses)}
    words = blocks.llvm(program.whole, demangle=False)
    if words:
        result["llvm"] = with_llvm(linkage_names(program, addresses), blocks.ask(words, addresses))
    words = blocks.gnu(program.path if program.gnu_finds else program.whole)
    if words:
        theirs = blocks.ask(words, addresses)
        result["gnu"] = with_gnu(program, ours, theirs)
        if blocks.has_verb():
            result["gnu, compatible"] = with_gnu(program, answers(program, addresses, "--gnu-compat"), theirs)
    words = blocks.elfutils(program.path)
    if words and "alternate" in program.name:
        result["elfutils"] = with_elfutils(
            ours, blocks.ask(words, addresses[:: max(1, len(addresses) // 1000)]), addresses
        )
    return result


def answers(program: Program, addresses: Sequence[int], *options: str) -> list[list[Frame]]:
    """Return ours."""
    if blocks.has_verb():
        return blocks.ask(blocks.ours(program.path, "--debug-dir", str(program.beside), *options), addresses)
    from memleak.symbolize import Symbolizer

    with Symbolizer(engine="memleak", debug_dirs=[str(program.beside)]) as symbolizer:
        found = symbolizer.resolve([(str(program.path), None, address, True) for address in addresses])
    return [
        [Frame(f.function or "??", f.file or "??", f.line, f.discriminator if f.line else 0) for f in chain]
        for chain in found
    ]


def linkage_names(program: Program, addresses: Sequence[int]) -> list[list[Frame]]:
    """Return ours as linkers spell the names: demanglers differ in theirs."""
    from memleak.symbolize.debugfiles import find_binary
    from memleak.symbolize.engine import DwarfEngine

    file = find_binary(str(program.path), None, sysroot=None, debug_dirs=[str(program.beside)]).line_file
    engine = DwarfEngine()
    found = engine.lookup(file, addresses) if file else [[] for _ in addresses]
    engine.close()
    nothing = [Frame("??", "??", None, 0)]
    return [
        [Frame(f.function or "??", f.file or "??", f.line, f.discriminator) for f in chain] or nothing
        for chain in found
    ]


def with_llvm(ours: Sequence[list[Frame]], theirs: Sequence[list[Frame]]) -> dict[str, Any]:
    """Count: the innermost line, the depth, all lines with their files, all names of what was inlined."""
    counts: Counter[str] = Counter()
    first_other: Optional[str] = None
    for mine, other in zip(ours, theirs):
        if not any(frame.line for frame in other):
            counts["nothing"] += 1
            counts["nothing, ours neither"] += not any(frame.line for frame in mine)
            continue
        counts["compared"] += 1
        counts["line"] += mine[0].line == other[0].line
        counts["depth"] += len(mine) == len(other)
        alike = [frame[1:3] for frame in mine] == [frame[1:3] for frame in other]
        counts["chain"] += alike
        counts["inlined names"] += [frame.function for frame in mine[:-1]] == [frame.function for frame in other[:-1]]
        if not alike and first_other is None:
            first_other = example(mine, other)
    return {**counts, **({"example": first_other} if first_other else {})}


def with_elfutils(
    ours: Sequence[list[Frame]], theirs: Sequence[list[Frame]], addresses: Sequence[int]
) -> dict[str, Any]:
    """Count lines and names; of every so many addresses, for it takes long."""
    step = max(1, len(addresses) // 1000)
    counts: Counter[str] = Counter()
    for mine, other in zip(ours[::step], theirs):
        if mine[0].line is None or other[0].line is None:
            continue
        counts["compared"] += 1
        counts["chain"] += [frame[1:3] for frame in mine] == [frame[1:3] for frame in other]
        counts["inlined names"] += [frame.function for frame in mine[:-1]] == [frame.function for frame in other[:-1]]
    return dict(counts)


def example(mine: Sequence[Frame], other: Sequence[Frame]) -> str:
    """Return the first frames that differ, files without their directories."""
    for a, b in zip_longest(mine, other):
        if a != b:
            return f"{_words(a)} for {_words(b)}"
    return ""


def _words(frame: Optional[Frame]) -> str:
    if frame is None:
        return "no frame"
    ending = f" (discriminator {frame.discriminator})" if frame.discriminator else ""
    return f"{frame.function[:120]} at {frame.file.rpartition('/')[2]}:{frame.line or '?'}{ending}"


def with_gnu(program: Program, ours: Sequence[list[Frame]], theirs: Sequence[list[Frame]]) -> dict[str, Any]:
    """Count the differences by their kind."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for mine, other in zip(ours, theirs):
        kind = kind_of(program, mine, other)
        counts[kind] += 1
        if kind != "same":
            examples.setdefault(kind, example(mine, other))
    return {"kinds": dict(counts), "examples": examples}


def kind_of(program: Program, mine: Sequence[Frame], other: Sequence[Frame]) -> str:
    """Return which of the known differences it is."""
    if list(mine) == list(other):
        return "same"
    has_lines = any(frame.line for frame in mine)
    if not has_lines and not any(frame.line for frame in other):
        return "7"
    for kind in ("split", "alternate", "64-bit"):
        if kind in program.name:
            return {"split": "2", "alternate": "3", "64-bit": "10"}[kind]
    if len(mine) != len(other):
        return "1" if program.base.startswith("clang") and len(mine) > len(other) else "other"
    if [frame.line for frame in mine] != [frame.line for frame in other]:
        return "other"
    if [frame.discriminator for frame in mine] != [frame.discriminator for frame in other]:
        return "11" if mine[0].discriminator == other[0].discriminator else "other"
    if [frame.file for frame in mine] != [frame.file for frame in other]:
        return "8"
    return named(program.base, mine, other)


def named(name: str, mine: Sequence[Frame], other: Sequence[Frame]) -> str:
    """Return the kind of a difference in names alone."""
    pairs = [(a.function, b.function) for a, b in zip(mine, other) if a.function != b.function]
    if name.startswith("rust"):
        return "9"
    if any(a == "??" for a, _ in pairs):
        return "6"
    if all(_CLONE.sub("", a) == _CLONE.sub("", b) for a, b in pairs):
        return "5"
    # What DWARF has where there is no linkage name: no parameters.
    bare = [a for a, b in pairs if a in b or b == other[-1].function or not _PARAMETERS.search(a)]
    return "4" if len(bare) == len(pairs) else "other"
