"""The text of addr2line -afiC: how tools are asked for it, how it is cut into answers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Optional

HERE = Path(__file__).resolve().parent
_ADDRESS = re.compile(r"0x[0-9a-f]+\Z")
_PLACE = re.compile(r"(.*?):([0-9?]+)(?: \(discriminator (\d+)\))?\Z")


class Frame(NamedTuple):
    """A function and its place as they were printed; "?" for a line is None."""

    function: str
    file: str
    line: Optional[int]
    discriminator: int


@lru_cache(maxsize=1)
def has_verb() -> bool:
    """Tell whether the package has `memleak addr2line`."""
    words = [sys.executable, "-m", "memleak", "addr2line", "--help"]
    return subprocess.run(words, capture_output=True).returncode == 0


def ours(path: Path, *options: str, cached: bool = False) -> list[str]:
    """Return how our own reader is started; with the cache on disk, or without."""
    if has_verb():
        words = ["addr2line", "-afiC", *options, *([] if cached else ["--no-cache"]), "-e", str(path)]
        return [sys.executable, "-m", "memleak", *words]
    return [sys.executable, str(HERE / "text.py"), str(path)]


def gnu(path: Path) -> Optional[list[str]]:
    """Return how GNU addr2line is started; None if it is not installed."""
    return ["addr2line", "-afiC", "-e", str(path)] if shutil.which("addr2line") else None


def llvm(path: Path, *, demangle: bool = True) -> Optional[list[str]]:
    """Return how llvm-symbolizer is started for the same text."""
    from memleak.symbolize.lines import choose_engine

    engine = choose_engine("llvm-symbolizer")
    if engine is None:
        return None
    program = engine._command[0]  # type: ignore[attr-defined]
    return [program, "--output-style=GNU", "-a", "-f", "-i", "-C" if demangle else "--no-demangle", "-e", str(path)]


def elfutils(path: Path) -> Optional[list[str]]:
    """Return how eu-addr2line is started."""
    return ["eu-addr2line", "-a", "-f", "-i", "-C", "-e", str(path)] if shutil.which("eu-addr2line") else None


def ask(words: Sequence[str], addresses: Iterable[int]) -> list[list[Frame]]:
    """Return the answers of a tool, one for each address."""
    asked = "".join(f"{address:#x}\n" for address in addresses)
    done = subprocess.run(words, input=asked, capture_output=True, text=True, errors="surrogateescape")
    return cut(done.stdout.splitlines())


def cut(lines: Iterable[str]) -> list[list[Frame]]:
    """Return the answers in a text."""
    found: list[list[str]] = []
    for line in lines:
        if _ADDRESS.match(line):
            found.append([])
        elif found:
            found[-1].append(line)
    return [[frame(function, place) for function, place in zip(block[::2], block[1::2])] for block in found]


def frame(function: str, place: str) -> Frame:
    """Return a frame of its two lines. eu-addr2line adds where a call was inlined, and columns."""
    function = function.partition(" inlined at ")[0]
    match = _PLACE.match(place)
    if match is None:
        return Frame(function, place, None, 0)
    file, line, discriminator = match.groups()
    inner = _PLACE.match(file)
    if inner and inner[2].isdigit() and line.isdigit():  # file:line:column
        file, line = inner[1], inner[2]
    return Frame(function, file, int(line) if line.isdigit() and int(line) else None, int(discriminator or 0))
